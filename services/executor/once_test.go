package executor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	customersv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/customers/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
)

// keyed is a call of the destructive tool with a key, allowed by a decision of its
// own each time.
func keyed(t testing.TB, key string, edit ...func(*authv1.Grant)) *executorv1.CallRequest {
	t.Helper()
	decisions.Add(1)
	edit = append([]func(*authv1.Grant){func(g *authv1.Grant) { g.DecisionId = fmt.Sprint("d_", decisions.Load()) }}, edit...)
	r := granted(t, deleteTool, deleteArguments, edit...)
	r.IdempotencyKey = key
	return r
}

var decisions atomic.Int64

// However often a call with a key is repeated, and at whichever executor, it is
// made once, and all get what came of it.
func TestACallWithAKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	here := start(t)
	var calls atomic.Int32
	here.customers(func(context.Context) error { calls.Add(1); return nil })
	there := here.another(deleteTool, "get_customer")
	for round := range 3 {
		var first, repeats atomic.Int32
		var wg sync.WaitGroup
		for i := range 20 {
			at, r := []*system{here, there}[i%2], keyed(t, fmt.Sprint("order:", round))
			wg.Go(func() {
				for {
					got, _, err := at.call(t.Context(), r)
					switch no := got.GetRefusal(); {
					case err != nil:
						t.Errorf("Call: %v", err)
						return
					case no.GetReason() == auditv1.Reason_REASON_REPEATED && no.GetRetryable():
						r = keyed(t, r.GetIdempotencyKey()) // in progress: ask again
						continue
					case no != nil || !strings.Contains(string(got.GetResult().GetStructured()), "deleted"):
						t.Errorf("Call = %v", got)
					case got.GetRepeats() == "":
						first.Add(1)
					default:
						repeats.Add(1)
					}
					return
				}
			})
		}
		wg.Wait()
		if calls.Load() != int32(round+1) || first.Load() != 1 || repeats.Load() != 19 {
			t.Errorf("round %d: called %d times so far, %d first results and %d repeated", round, calls.Load(), first.Load(), repeats.Load())
		}
	}
	// Another principal's key is another.
	if got, _, err := here.call(t.Context(), keyed(t, "order:0", func(g *authv1.Grant) { g.Principal.Id = "key:other" })); err != nil || got.GetRepeats() != "" || calls.Load() != 4 {
		t.Errorf("Call = %v, %v; called %d times", got, err, calls.Load())
	}
	// Other arguments with the same key are a mistake.
	other := granted(t, deleteTool, `{"customer_id":8}`, func(g *authv1.Grant) { g.DecisionId = "d_other" })
	other.IdempotencyKey = "order:0"
	if got := here.last(t, other).GetResult().GetRefusal(); got.GetReason() != auditv1.Reason_REASON_REPEATED || got.GetRetryable() || !strings.Contains(got.GetMessage(), "other arguments") {
		t.Errorf("Call refuses with %v", got)
	}
	if calls.Load() != 4 {
		t.Errorf("called %d times", calls.Load())
	}
}

// What is kept of a result cannot be read on the bus.
func TestResultsAreKeptEncrypted(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.customers(func(context.Context) error { return nil })
	if got := s.last(t, keyed(t, "k")).GetResult(); got.GetRefusal() != nil {
		t.Fatalf("Call = %v", got)
	}
	var kept int
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_ = s.bus.Watch(ctx, bus.Calls, func(e bus.Entry) {
		kept++
		if strings.Contains(string(e.Value), "deleted") || len(e.Value) < 64 || strings.Contains(e.Key, "k.") {
			t.Errorf("entry %s = %q", e.Key, e.Value)
		}
	}, func(bool) { cancel() })
	if kept != 1 {
		t.Errorf("%d entries", kept)
	}
}

// What a tool has said is its answer, the second time too; what did not happen can
// be tried again.
func TestFailuresOfCallsWithKeys(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		fails error
		calls int32 // after a second call with the key
		want  string
	}{
		{"the tool says no", fault.New(codes.NotFound, customersv1.Reason_REASON_CUSTOMER_UNKNOWN, "no customer 7"), 1, "no customer 7"},
		{"the tool says later", fault.New(codes.Unavailable, customersv1.Reason_REASON_DATABASE, "busy").After(time.Second), 2, "busy"},
		{"nobody knows", errors.New("boom"), 1, "It may or may not have done it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			var calls atomic.Int32
			s.customers(func(context.Context) error { calls.Add(1); return tt.fails })
			for range 2 {
				if got := s.last(t, keyed(t, "k")).GetResult().GetRefusal(); !strings.Contains(got.GetMessage(), tt.want) {
					t.Errorf("Call refuses with %v", got)
				}
			}
			if calls.Load() != tt.calls {
				t.Errorf("called %d times, want %d", calls.Load(), tt.calls)
			}
		})
	}
}

// While a call goes on, nobody else makes it.
func TestCallThatGoesOn(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) { c.DefaultTimeout = time.Minute })
	var calls atomic.Int32
	going, end := make(chan bool, 1), make(chan bool)
	s.customers(func(context.Context) error {
		calls.Add(1)
		going <- true
		<-end
		return nil
	})
	done := make(chan bool)
	go func() {
		defer close(done)
		_, _, _ = s.call(t.Context(), keyed(t, "k"))
	}()
	<-going
	got := s.another(deleteTool, "get_customer").last(t, keyed(t, "k")).GetResult().GetRefusal()
	if got.GetReason() != auditv1.Reason_REASON_REPEATED || !got.GetRetryable() || got.GetRetryAfter().AsDuration() != 2*time.Second {
		t.Errorf("Call refuses with %v", got)
	}
	close(end)
	<-done
	if calls.Load() != 1 {
		t.Errorf("called %d times", calls.Load())
	}
}

// Where it cannot be told whether it was made before, it is not made.
func TestCallWithAKeyWithoutTheBus(t *testing.T) {
	t.Parallel()
	s := start(t)
	b := &claims{Bus: s.bus}
	var calls atomic.Int32
	s.customers(func(context.Context) error { calls.Add(1); return nil })
	svc, err := executor.New(executor.Options{Config: s.config, Audit: s.audit, Bus: s.bus, Used: b, Contexts: s.bus, Dial: s.dial})
	if err != nil {
		t.Fatal(err)
	}
	o := &system{t: t, bus: s.bus, audit: s.audit}
	o.run(svc)
	o.wait(deleteTool, "get_customer")
	away := errors.New("away")
	b.away.Store(&away)
	if _, _, err := o.call(t.Context(), keyed(t, "k")); err == nil {
		t.Error("it was made")
	}
	if calls.Load() != 0 {
		t.Errorf("called %d times", calls.Load())
	}
}
