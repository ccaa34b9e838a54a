package auth_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

func TestEdgesAreToldOfPoliciesOnceAtTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		st.set(true, true)
		h := build(t, st, nil)
		time.Sleep(time.Hour)
		if versions, lost := h.notices.ofPolicies(); len(versions)+lost > 0 {
			t.Errorf("before keys are known: got notices %q and %d that failed, want none", versions, lost)
		}
		h.notices.setAway(true)
		st.set(false, false)
		time.Sleep(time.Minute)
		versions, lost := h.notices.ofPolicies()
		if len(versions) > 0 || lost < 10 || lost > 60 {
			t.Errorf("without a bus: got notices %q, and %d attempts in a minute", versions, lost)
		}
		h.notices.setAway(false)
		time.Sleep(10 * time.Second)
		versions, _ = h.notices.ofPolicies()
		if len(versions) != 1 || len(versions[0]) != 64 {
			t.Fatalf("with the bus: got notices %q, want one", versions)
		}
		st.set(true, true)
		synctest.Wait()
		st.set(false, false)
		time.Sleep(time.Hour)
		if again, _ := h.notices.ofPolicies(); len(again) != 1 {
			t.Errorf("after a break: got notices %q, want no other", again)
		}

		other := open(t, newStore(t), nil)
		synctest.Wait()
		if same, _ := other.notices.ofPolicies(); len(same) != 1 || same[0] != versions[0] {
			t.Errorf("another process with the same policies: got notices %q, want %q", same, versions)
		}
		own := writePolicies(t, `@id("all") permit (principal, action, resource);`)
		other = open(t, newStore(t), func(c *auth.Config) { c.Policies = []string{own} })
		synctest.Wait()
		if changed, _ := other.notices.ofPolicies(); len(changed) != 1 || changed[0] == versions[0] {
			t.Errorf("a process with other policies: got notices %q, want one that is not %q", changed, versions)
		}
	})
}

func TestServiceEndsWhileItCannotTellOfPolicies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		h := build(t, st, nil)
		h.notices.setAway(true)
		time.Sleep(time.Hour) // the end of the test waits for the end of the service
	})
}

// TestRoleTellsOfPolicies starts the role as a process does, with NATS in
// another one.
func TestRoleTellsOfPolicies(t *testing.T) {
	t.Parallel()
	server := bus.DefaultConfig()
	server.Dir, server.Sync, server.Listen = t.TempDir(), "2m", "127.0.0.1:0"
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	b, err := bus.Open(server, "edge", embed.Start, log)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	heard := make(chan *authv1.PolicyNotice, 1)
	unsubscribe, err := bus.Subscribe(b, bus.SubjectPolicies, func(_ context.Context, n *authv1.PolicyNotice) { heard <- n })
	if err != nil {
		t.Fatal(err)
	}
	defer unsubscribe()
	if err := b.Conn().Flush(); err != nil {
		t.Fatal(err)
	}

	cfg, err := app.Load("", "state_dir="+t.TempDir(), "bus.embedded=false", "bus.url="+b.URL())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx, app.Options{Config: cfg, Log: log}, auth.Role) }()
	select {
	case n := <-heard:
		if len(n.GetVersion()) != 64 {
			t.Errorf("got version %q, want a hash", n.GetVersion())
		}
	case <-ctx.Done():
		t.Error("heard nothing of policies")
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}
