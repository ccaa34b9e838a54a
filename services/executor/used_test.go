package executor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
)

const deleteTool, deleteArguments = "delete_customer_account", `{"customer_id":7}`

// another starts one more executor on the same bus, with the same tools.
func (s *system) another(want ...string) *system {
	s.t.Helper()
	o := &system{t: s.t, bus: s.bus, audit: &recorder{}}
	svc, err := executor.New(executor.Options{Config: s.config, Audit: o.audit, Bus: s.bus, Used: s.bus, Contexts: s.bus, Dial: s.dial})
	if err != nil {
		s.t.Fatal(err)
	}
	o.run(svc)
	o.wait(want...)
	return o
}

// A grant for a destructive tool is good once, with whichever executor.
func TestAGrantIsUsedUpForAllExecutors(t *testing.T) {
	t.Parallel()
	here := start(t)
	var calls atomic.Int32
	here.customers(func(context.Context) error { calls.Add(1); return nil })
	there := here.another(deleteTool, "get_customer")
	const rounds, uses = 3, 100
	for round := range rounds {
		r := granted(t, deleteTool, deleteArguments, func(g *authv1.Grant) { g.DecisionId = fmt.Sprint("d_", round) })
		var done atomic.Int32
		var wg sync.WaitGroup
		for i := range uses {
			at := []*system{here, there}[i%2]
			wg.Go(func() {
				_, _, err := at.call(t.Context(), r)
				switch {
				case err == nil:
					done.Add(1)
				case !fault.Is(err, executorv1.Reason_REASON_GRANT):
					t.Errorf("Call: %v", err)
				}
			})
		}
		wg.Wait()
		if done.Load() != 1 || calls.Load() != int32(round+1) {
			t.Errorf("round %d: %d of %d uses succeeded, and the tool was called %d times so far", round, done.Load(), uses, calls.Load())
		}
	}
	count := make(map[string]int)
	for _, kind := range append(kinds(here.audit.take()), kinds(there.audit.take())...) {
		count[kind]++
	}
	want := map[string]int{"intent": rounds, "outcome OK UNSPECIFIED": rounds, "decision DENY GRANT_INVALID grant: used before": rounds * (uses - 1)}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// claims is a bus that can be away.
type claims struct {
	*bus.Bus
	away  atomic.Pointer[error]
	count atomic.Int32
}

func (c *claims) Create(ctx context.Context, bucket bus.Bucket, key string, value []byte) (uint64, error) {
	c.count.Add(1)
	if err := c.away.Load(); err != nil {
		return 0, *err
	}
	return c.Bus.Create(ctx, bucket, key, value)
}

// Where the bus does not tell whether a grant was used, destructive tools are
// refused (fails closed), and no others.
func TestUsesThatCannotBeClaimedAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t)
	var calls atomic.Int32
	s.customers(func(context.Context) error { calls.Add(1); return nil })
	shared := &claims{Bus: s.bus}
	svc, err := executor.New(executor.Options{Config: s.config, Audit: s.audit, Bus: s.bus, Used: shared, Contexts: s.bus, Dial: s.dial})
	if err != nil {
		t.Fatal(err)
	}
	s.run(svc)
	s.wait(deleteTool, "get_customer")

	away := errors.New("no answer")
	shared.away.Store(&away)
	r := granted(t, deleteTool, deleteArguments, func(g *authv1.Grant) { g.DecisionId = "d_1" })
	_, _, err = s.call(t.Context(), r)
	f, _ := errors.AsType[*fault.Error](err)
	if status.Code(err) != codes.Unavailable || !fault.Is(err, executorv1.Reason_REASON_AUDIT_UNAVAILABLE) || f.RetryAfter != time.Second {
		t.Errorf("Call: %v", err)
	}
	if diff := cmp.Diff([]string{"outcome FAILED AUDIT_UNAVAILABLE"}, kinds(s.audit.take())); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	before := shared.count.Load()
	if _, _, err := s.call(t.Context(), granted(t, "get_customer", deleteArguments)); err != nil {
		t.Errorf("a tool that only reads: %v", err)
	}
	if shared.count.Load() != before {
		t.Error("a tool that only reads costs a claim")
	}

	shared.away.Store(nil)
	if _, _, err := s.call(t.Context(), r); !fault.Is(err, executorv1.Reason_REASON_GRANT) {
		t.Errorf("the same grant, when the bus is back: %v", err)
	}
	if calls.Load() != 0 {
		t.Errorf("%d calls got through", calls.Load())
	}
	r = granted(t, deleteTool, deleteArguments, func(g *authv1.Grant) { g.DecisionId = "d_2" })
	if _, _, err := s.call(t.Context(), r); err != nil || calls.Load() != 1 {
		t.Errorf("another grant, when the bus is back: %v, %d calls", err, calls.Load())
	}
}

// Grants that were hoarded end soon after the credential they were given for.
func TestGrantsOfARevokedCredentialAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.customers(func(context.Context) error { return nil })
	of := func(credential string) *executorv1.CallRequest {
		return granted(t, "get_customer", deleteArguments, func(g *authv1.Grant) { g.Principal.CredentialId = credential })
	}
	for _, k := range []*authv1.Key{
		{Id: "rotated", State: authv1.KeyState_KEY_STATE_ROTATING},
		{Id: "revoked", State: authv1.KeyState_KEY_STATE_REVOKED},
	} {
		if err := bus.Publish(t.Context(), s.bus, bus.SubjectCredentials, k); err != nil {
			t.Fatal(err)
		}
	}
	for { // until the notice has arrived
		if _, _, err := s.call(t.Context(), of("revoked")); fault.Is(err, executorv1.Reason_REASON_GRANT) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	events := kinds(s.audit.take())
	if got, want := events[len(events)-1], "decision DENY GRANT_INVALID grant: of a credential that was revoked since"; got != want {
		t.Errorf("the last event is %q, want %q", got, want)
	}
	for _, credential := range []string{"rotated", "another"} {
		if _, _, err := s.call(t.Context(), of(credential)); err != nil {
			t.Errorf("a grant of the credential %s: %v", credential, err)
		}
	}
	raw := granted(t, "", "{}", func(g *authv1.Grant) {
		g.Principal.CredentialId, g.Action = "revoked", authv1.Action_ACTION_PROMPTS_LIST
	}).GetGrant()
	if _, err := s.client.ListPrompts(t.Context(), &executorv1.ListPromptsRequest{Grant: raw}); !fault.Is(err, executorv1.Reason_REASON_GRANT) {
		t.Errorf("ListPrompts: %v", err)
	}
}
