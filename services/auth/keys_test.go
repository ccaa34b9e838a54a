package auth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
)

func TestCreateKeyRefuses(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	h.roleKey(t, "admin")
	tests := []struct {
		name   string
		req    *authv1.CreateKeyRequest
		code   codes.Code
		reason fault.Reason
		say    string
	}{
		{
			"a role that no policy knows", &authv1.CreateKeyRequest{Name: "a", Roles: []string{"boss"}},
			codes.InvalidArgument, authv1.Reason_REASON_ROLE, `"boss"; those it could be are admin, analyst, intern`,
		},
		{
			"a life beyond the maximum", &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}, ExpiresIn: durationpb.New(366 * 24 * time.Hour)},
			codes.InvalidArgument, authv1.Reason_REASON_EXPIRY, "at most 365 days",
		},
		{
			"the name of a live key", &authv1.CreateKeyRequest{Name: "admin", Roles: []string{"admin"}},
			codes.AlreadyExists, authv1.Reason_REASON_NAME_TAKEN, `"admin"`,
		},
		{
			"an address in place of a network", &authv1.CreateKeyRequest{
				Name: "a", Roles: []string{"admin"}, Restrictions: &authv1.KeyRestrictions{Networks: []string{"10.0.0.0/8", "192.0.2.7"}},
			},
			codes.InvalidArgument, faultv1.Reason_REASON_INVALID, "restrictions.networks[1]",
		},
		{
			"a network with bits of a host", &authv1.CreateKeyRequest{
				Name: "a", Roles: []string{"admin"}, Restrictions: &authv1.KeyRestrictions{Networks: []string{"192.0.2.7/24"}},
			},
			codes.InvalidArgument, faultv1.Reason_REASON_INVALID, "restrictions.networks[0]",
		},
		{
			"a thumbprint that is cut off", &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}, ProofThumbprint: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9X"},
			codes.InvalidArgument, faultv1.Reason_REASON_INVALID, "proof_thumbprint",
		},
		{
			"a thumbprint that no hash has", &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}, ProofThumbprint: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xt"},
			codes.InvalidArgument, faultv1.Reason_REASON_INVALID, "proof_thumbprint",
		},
		{
			"no role, by the rules of the proto file", &authv1.CreateKeyRequest{Name: "a"},
			codes.InvalidArgument, faultv1.Reason_REASON_INVALID, "roles",
		},
	}
	h.ledger.take()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := h.keys.CreateKey(t.Context(), tt.req)
			if status.Code(err) != tt.code || !fault.Is(err, tt.reason) || !strings.Contains(err.Error(), tt.say) {
				t.Errorf("got error %v, want %v %v saying %q", err, tt.code, tt.reason, tt.say)
			}
			if events := h.ledger.take(); len(events) > 0 {
				t.Errorf("got events %v, want none", events)
			}
		})
	}
}

func TestLifeOfAKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), nil)
		good := func(text string) bool {
			t.Helper()
			resp, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text)})
			if err != nil {
				t.Fatal(err)
			}
			return resp.GetPrincipal() != nil
		}
		operations := func() (all []string) {
			for _, e := range h.ledger.take() {
				if a := e.GetAdmin(); a != nil {
					all = append(all, a.GetOperation()+" "+a.GetObject()+" by "+e.GetActor().GetPrincipal())
				}
			}
			return all
		}
		start := time.Now()
		created, err := h.keys.CreateKey(t.Context(), &authv1.CreateKeyRequest{
			Name: "ci", Owner: "anna", Roles: []string{"intern", "analyst"},
			Restrictions: &authv1.KeyRestrictions{Tools: []string{"echo"}, Networks: []string{"192.0.2.0/24"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		id := created.GetKey().GetId()
		want := &authv1.Key{
			Id: id, Name: "ci", Owner: "anna", Tenant: "default", Roles: []string{"analyst", "intern"},
			State: authv1.KeyState_KEY_STATE_ACTIVE, Masked: "sp_dev_" + id + "_…",
			CreateTime: timestamppb.New(start), ExpireTime: timestamppb.New(start.Add(90 * 24 * time.Hour)),
			Restrictions: &authv1.KeyRestrictions{Tools: []string{"echo"}, Networks: []string{"192.0.2.0/24"}},
		}
		if diff := cmp.Diff(want, created.GetKey(), protocmp.Transform()); diff != "" {
			t.Errorf("created (-want +got):\n%s", diff)
		}
		if got, want := operations(), []string{"key.create " + id + " by role:sallyport"}; !slices.Equal(got, want) {
			t.Errorf("got operations %q, want %q", got, want)
		}

		// Rotation: both secrets are good until the overlap ends.
		id, first := h.key(t, &authv1.CreateKeyRequest{Name: "rotating", Roles: []string{"analyst"}})
		rotated, err := h.keys.RotateKey(t.Context(), &authv1.RotateKeyRequest{Id: id, Overlap: durationpb.New(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		second := rotated.GetSecret()
		if rotated.GetKey().GetState() != authv1.KeyState_KEY_STATE_ROTATING || !good(first) || !good(second) {
			t.Errorf("rotating: got %v, first good %v, second good %v", rotated.GetKey(), good(first), good(second))
		}
		time.Sleep(time.Hour)
		if good(first) || !good(second) {
			t.Errorf("after the overlap: got first good %v, second good %v", good(first), good(second))
		}
		rotated, err = h.keys.RotateKey(t.Context(), &authv1.RotateKeyRequest{Id: id})
		if err != nil {
			t.Fatal(err)
		}
		third := rotated.GetSecret()
		if rotated.GetKey().GetState() != authv1.KeyState_KEY_STATE_ACTIVE || good(second) || !good(third) {
			t.Errorf("rotated without overlap: got %v, second good %v, third good %v", rotated.GetKey(), good(second), good(third))
		}

		// Revocation: at once, and again without effect.
		h.notices.take()
		operations()
		for range 2 {
			revoked, err := h.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: id})
			if err != nil || revoked.GetKey().GetState() != authv1.KeyState_KEY_STATE_REVOKED || revoked.GetKey().GetRevokeTime() == nil {
				t.Errorf("RevokeKey: got %v, %v; want it revoked", revoked, err)
			}
			if good(third) {
				t.Error("a revoked key is good")
			}
		}
		if got, want := operations(), []string{"key.revoke " + id + " by role:sallyport"}; !slices.Equal(got, want) {
			t.Errorf("got operations %q, want %q", got, want)
		}
		for _, n := range h.notices.take() {
			if diff := cmp.Diff(&authv1.Key{Id: id, State: authv1.KeyState_KEY_STATE_REVOKED}, n, protocmp.Transform()); diff != "" {
				t.Errorf("notice (-want +got):\n%s", diff)
			}
		}
		if _, err := h.keys.RotateKey(t.Context(), &authv1.RotateKeyRequest{Id: id}); !fault.Is(err, authv1.Reason_REASON_KEY_DEAD) {
			t.Errorf("RotateKey of a revoked key: got error %v, want %v", err, authv1.Reason_REASON_KEY_DEAD)
		}
		h.roleKey(t, "admin")
		h.key(t, &authv1.CreateKeyRequest{Name: "rotating", Roles: []string{"admin"}}) // the name is free again

		// Use, up to a minute late for the store.
		_, last := h.key(t, &authv1.CreateKeyRequest{Name: "used", Roles: []string{"admin"}})
		used := time.Now()
		if _, err := h.auth.Authorize(t.Context(), call(last, "echo", "{}")); err != nil {
			t.Fatal(err)
		}
		list, err := h.keys.ListKeys(t.Context(), &authv1.ListKeysRequest{})
		if err != nil {
			t.Fatal(err)
		}
		k := list.GetKeys()[slices.IndexFunc(list.GetKeys(), func(k *authv1.Key) bool { return k.GetName() == "used" })]
		if diff := cmp.Diff(&authv1.KeyUse{Time: timestamppb.New(used), Tool: "echo", Address: "192.0.2.7"}, k.GetLastUse(), protocmp.Transform()); diff != "" {
			t.Errorf("last use (-want +got):\n%s", diff)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		again := open(t, h.store, nil)
		list, err = again.keys.ListKeys(t.Context(), &authv1.ListKeysRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(list.GetKeys(), func(k *authv1.Key) bool { return k.GetName() == "used" && k.GetLastUse() != nil }) {
			t.Error("another process does not know of the last use a minute later")
		}

		// No secret is anywhere.
		for _, text := range []string{first, second, third, last} {
			secret := text[len("sp_dev_0123456789_"):]
			for place, held := range map[string]string{"the store": h.store.text(), "the log": h.log.String(), "the list": list.String()} {
				if strings.Contains(held, secret[:20]) {
					t.Errorf("%s holds a secret", place)
				}
			}
		}
	})
}

func TestUnknownKey(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	h.ledger.take()
	_, err := h.keys.RotateKey(t.Context(), &authv1.RotateKeyRequest{Id: "0123456789"})
	if status.Code(err) != codes.NotFound || !fault.Is(err, authv1.Reason_REASON_KEY_UNKNOWN) {
		t.Errorf("RotateKey: got error %v, want %v", err, authv1.Reason_REASON_KEY_UNKNOWN)
	}
	_, err = h.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: "0123456789"})
	if status.Code(err) != codes.NotFound || !fault.Is(err, authv1.Reason_REASON_KEY_UNKNOWN) {
		t.Errorf("RevokeKey: got error %v, want %v", err, authv1.Reason_REASON_KEY_UNKNOWN)
	}
	if events := h.ledger.take(); len(events) > 0 {
		t.Errorf("got events %v, want none", events)
	}
}

// TestChangesAndTheirRecords checks that nothing is given out without a record,
// and that nothing keeps a key from being revoked.
func TestChangesAndTheirRecords(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	id, text := h.key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
	h.ledger.take()

	h.ledger.fill(true)
	if _, err := h.keys.CreateKey(t.Context(), &authv1.CreateKeyRequest{Name: "b", Roles: []string{"admin"}}); !fault.Is(err, authv1.Reason_REASON_STORE) {
		t.Errorf("CreateKey without a record: got error %v, want %v", err, authv1.Reason_REASON_STORE)
	}
	if _, err := h.keys.RotateKey(t.Context(), &authv1.RotateKeyRequest{Id: id}); !fault.Is(err, authv1.Reason_REASON_STORE) {
		t.Errorf("RotateKey without a record: got error %v, want %v", err, authv1.Reason_REASON_STORE)
	}
	list, err := h.keys.ListKeys(t.Context(), &authv1.ListKeysRequest{})
	if err != nil || len(list.GetKeys()) != 1 {
		t.Errorf("got %v, %v; want the one key", list, err)
	}
	h.ledger.fill(false)
	if err := h.ask(t, text); err != nil {
		t.Errorf("the key that was not rotated: %v", err)
	}
	h.ledger.take()

	h.store.set(false, true)
	if _, err := h.keys.CreateKey(t.Context(), &authv1.CreateKeyRequest{Name: "b", Roles: []string{"admin"}}); !fault.Is(err, authv1.Reason_REASON_STORE) {
		t.Errorf("CreateKey without a store: got error %v, want %v", err, authv1.Reason_REASON_STORE)
	}
	h.store.set(false, false)
	var operations []string
	for _, e := range h.ledger.take() {
		operations = append(operations, e.GetAdmin().GetOperation())
	}
	if want := []string{"key.create", "key.create.failed"}; !slices.Equal(operations, want) {
		t.Errorf("got operations %q, want %q", operations, want)
	}

	h.ledger.fill(true)
	if _, err := h.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: id}); !fault.Is(err, authv1.Reason_REASON_STORE) {
		t.Errorf("RevokeKey without a record: got error %v, want %v", err, authv1.Reason_REASON_STORE)
	}
	resp, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text)})
	if err != nil || resp.GetPrincipal() != nil {
		t.Errorf("got %v, %v; want the key revoked without a record", resp, err)
	}
}

func TestConflictingChangesAreTriedAgain(t *testing.T) {
	t.Parallel()
	st := newStore(t)
	nodes := []*house{open(t, st, nil), open(t, st, nil)}
	id, _ := nodes[0].key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
	errs := make(chan error)
	for i := range 8 {
		go func() {
			_, err := nodes[i%2].keys.RotateKey(t.Context(), &authv1.RotateKeyRequest{Id: id, Overlap: durationpb.New(time.Hour)})
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Errorf("RotateKey: %v", err)
		}
	}
}

func TestListKeysByPages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), nil)
		var want []string
		for i := range 7 {
			name := fmt.Sprint("key", i)
			want = append(want, name)
			h.key(t, &authv1.CreateKeyRequest{Name: name, Roles: []string{"admin"}})
			time.Sleep(time.Millisecond)
		}
		var got []string
		req := &authv1.ListKeysRequest{PageSize: 3}
		for pages := 0; ; pages++ {
			resp, err := h.keys.ListKeys(t.Context(), req)
			if err != nil || pages > 3 {
				t.Fatalf("page %d: %v", pages, err)
			}
			for _, k := range resp.GetKeys() {
				got = append(got, k.GetName())
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("names (-want +got):\n%s", diff)
		}
		if _, err := h.keys.ListKeys(t.Context(), &authv1.ListKeysRequest{PageToken: "x"}); !fault.Is(err, faultv1.Reason_REASON_INVALID) {
			t.Errorf("with a token of nobody: got error %v, want %v", err, faultv1.Reason_REASON_INVALID)
		}
	})
}

func TestDetailsOfANewKeyAreRecorded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), nil)
		id, _ := h.key(t, &authv1.CreateKeyRequest{
			Name: "ci", Owner: "anna", Tenant: "acme", Roles: []string{"intern"}, ExpiresIn: durationpb.New(time.Hour),
			Restrictions: &authv1.KeyRestrictions{Tools: []string{"echo"}, Networks: []string{"10.0.0.0/8", "192.0.2.0/24"}},
		})
		want := []*auditv1.Event{{
			Actor: &auditv1.Actor{Principal: "role:sallyport"}, Action: "key.create", Target: id,
			What: &auditv1.Event_Admin{Admin: &auditv1.AdminChange{Operation: "key.create", Object: id, Details: map[string]string{
				"name": "ci", "owner": "anna", "tenant": "acme", "roles": "intern", "expires": "2000-01-01T01:00:00Z",
				"tools": "echo", "networks": "10.0.0.0/8 192.0.2.0/24",
			}}},
		}}
		if diff := cmp.Diff(want, h.ledger.take(), protocmp.Transform()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}
