package auth_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// watched is a bus that tells when a watch has told everything.
type watched struct {
	*bus.Bus
	synced chan bool
}

// Watch implements [auth.Store].
func (w watched) Watch(ctx context.Context, bucket bus.Bucket, on func(bus.Entry), synced func(bool)) error {
	return w.Bus.Watch(ctx, bucket, on, func(complete bool) {
		synced(complete)
		if complete {
			w.synced <- true
		}
	})
}

// overNATS starts a service on a real bus and waits until it knows all keys.
func overNATS(t *testing.T, b *bus.Bus, stateDir string, edits ...func(*auth.Config)) (*house, func()) {
	t.Helper()
	h := new(house)
	w := watched{b, make(chan bool, 64)}
	cfg := auth.DefaultConfig()
	for _, edit := range edits {
		edit(&cfg)
	}
	var err error
	h.service, err = auth.New(cfg, auth.Deps{
		Store: w, Audit: new(ledger), StateDir: stateDir,
		Notify:         func(ctx context.Context, k *authv1.Key) error { return bus.Publish(ctx, b, bus.SubjectCredentials, k) },
		NotifyPolicies: func(context.Context, *authv1.PolicyNotice) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.service.Run(ctx) }()
	for range 4 {
		<-w.synced
	}
	h.auth = authv1.NewAuthServiceClient(rpctest.Serve(t, h.service.Register))
	operator := rpctest.Serve(t, h.service.Register, rpctest.As("sallyport"))
	h.keys, h.approvals = authv1.NewKeyServiceClient(operator), authv1.NewApprovalServiceClient(operator)
	h.policies = authv1.NewPolicyServiceClient(operator)
	return h, func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func TestKeysOutliveARestart(t *testing.T) {
	t.Parallel()
	busDir, stateDir := t.TempDir(), t.TempDir()
	b := bustest.Open(t, busDir)
	h, stop := overNATS(t, b, stateDir)
	_, text := h.key(t, &authv1.CreateKeyRequest{Name: "lasting", Roles: []string{"admin"}})
	stop()
	b.Close()

	b = bustest.Open(t, busDir)
	h, stop = overNATS(t, b, stateDir)
	defer stop()
	resp, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text)})
	if err != nil || resp.GetPrincipal().GetName() != "lasting" {
		t.Errorf("got %v, %v; want the principal of before", resp, err)
	}
}

func TestNodesLearnOfEachOthersChanges(t *testing.T) {
	t.Parallel()
	b, stateDir := bustest.New(t), t.TempDir()
	one, stop := overNATS(t, b, stateDir)
	defer stop()
	other, stop := overNATS(t, b, stateDir)
	defer stop()
	heard := make(chan *authv1.Key, 16)
	unsubscribe, err := bus.Subscribe(b, bus.SubjectCredentials, func(_ context.Context, k *authv1.Key) { heard <- k })
	if err != nil {
		t.Fatal(err)
	}
	defer unsubscribe()
	if err := b.Conn().Flush(); err != nil {
		t.Fatal(err)
	}

	id, text := one.key(t, &authv1.CreateKeyRequest{Name: "shared", Roles: []string{"admin"}})
	if k := <-heard; k.GetId() != id || k.GetState() != authv1.KeyState_KEY_STATE_ACTIVE {
		t.Errorf("got notice %v, want that %s is active", k, id)
	}
	eventually(t, "the other node knows the key", func() bool { return authenticates(t, other, text) })
	if _, err := other.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	if k := <-heard; k.GetId() != id || k.GetState() != authv1.KeyState_KEY_STATE_REVOKED {
		t.Errorf("got notice %v, want that %s is revoked", k, id)
	}
	eventually(t, "the first node knows of the revocation", func() bool { return !authenticates(t, one, text) })

	data, err := proto.Marshal(catalogue())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), bus.Catalogue, "current", data); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the catalogue arrives", func() bool { return one.service.CatalogueReady(t.Context()) == nil })
}

func TestPoliciesOfTheStoreReachAllNodes(t *testing.T) {
	t.Parallel()
	b, stateDir := bustest.New(t), t.TempDir()
	one, stop := overNATS(t, b, stateDir)
	defer stop()
	other, stop := overNATS(t, b, stateDir)
	defer stop()
	files := one.inUse(t).GetVersion()
	resp, err := one.put(t, openAll, files)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other node uses what was put", func() bool { return other.inUse(t).GetVersion() == resp.GetVersion() })
	if _, err := other.put(t, closedAll, files); !fault.Is(fault.Receive(err), authv1.Reason_REASON_POLICY_CHANGED) {
		t.Errorf("put with an old base: got %v", err)
	}
	if _, err := other.policies.RemovePolicies(t.Context(), &authv1.RemovePoliciesRequest{BaseVersion: resp.GetVersion()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first node uses files again", func() bool { return one.inUse(t).GetVersion() == files })
}

func authenticates(t *testing.T, h *house, text string) bool {
	t.Helper()
	resp, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text)})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetPrincipal() != nil
}

// eventually waits for what another goroutine does in its own time: real
// NATS cannot run under a fake clock.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
