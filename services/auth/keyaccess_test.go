package auth_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// TestNoKeyManagesKeys checks that only the operators' program does, whatever else
// is shown: an admin's API key beside the call changes nothing.
func TestNoKeyManagesKeys(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	id, text := h.key(t, &authv1.CreateKeyRequest{Name: "admin", Roles: []string{"admin"}})
	srv := rpc.Server{Allow: auth.Role.Allow}
	for _, peer := range []string{"edge", "executor", "auth", "quota", "audit", "stranger", ""} {
		keys := authv1.NewKeyServiceClient(srv.Local(peer, nil, h.service.Register))
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+text, "x-api-key", text)
		calls := map[string]func() error{
			"CreateKey": func() error {
				_, err := keys.CreateKey(ctx, &authv1.CreateKeyRequest{Name: "more", Roles: []string{"admin"}})
				return err
			},
			"ListKeys": func() error {
				_, err := keys.ListKeys(ctx, &authv1.ListKeysRequest{})
				return err
			},
			"RotateKey": func() error {
				_, err := keys.RotateKey(ctx, &authv1.RotateKeyRequest{Id: id})
				return err
			},
			"RevokeKey": func() error {
				_, err := keys.RevokeKey(ctx, &authv1.RevokeKeyRequest{Id: id})
				return err
			},
		}
		for name, do := range calls {
			if err := do(); status.Code(err) != codes.PermissionDenied && status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s by %q with a key: got error %v, want it refused", name, peer, err)
			}
		}
	}
	list, err := authv1.NewKeyServiceClient(srv.Local("sallyport", nil, h.service.Register)).ListKeys(t.Context(), &authv1.ListKeysRequest{})
	if err != nil || len(list.GetKeys()) != 1 || list.GetKeys()[0].GetState() != authv1.KeyState_KEY_STATE_ACTIVE {
		t.Errorf("got %v, %v; want the one key as it was", list, err)
	}
}

func TestLastUseOutlivesARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), nil)
		text, other := h.roleKey(t, "admin"), h.roleKey(t, "intern")
		used := timestamppb.Now()
		if _, err := h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{Credential: bearer(text), Origin: from("192.0.2.7"), Tools: []string{"echo"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.auth.Authorize(t.Context(), call(text, "echo", "{}")); err != nil { // in the same second
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		listed := timestamppb.Now()
		if _, err := h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{Credential: bearer(other), Origin: from("192.0.2.8"), Tools: []string{"echo"}}); err != nil {
			t.Fatal(err)
		}
		h.stop()
		list, err := open(t, h.store, nil).keys.ListKeys(t.Context(), &authv1.ListKeysRequest{})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]*authv1.KeyUse{}
		for _, k := range list.GetKeys() {
			got[k.GetName()] = k.GetLastUse()
		}
		want := map[string]*authv1.KeyUse{
			"admin":  {Time: used, Tool: "echo", Address: "192.0.2.7"},
			"intern": {Time: listed, Address: "192.0.2.8"},
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("last uses (-want +got):\n%s", diff)
		}
	})
}
