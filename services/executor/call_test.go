package executor_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	customersv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/customers/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// basics answers Echo as it is told.
type basics struct {
	basicsv1.UnimplementedBasicsServiceServer
	echo func(context.Context, string) (string, error)
}

func (b basics) Echo(ctx context.Context, req *basicsv1.EchoRequest) (*basicsv1.EchoResponse, error) {
	text, err := b.echo(ctx, req.GetText())
	return &basicsv1.EchoResponse{Text: text}, err
}

func (basics) AddNumbers(_ context.Context, req *basicsv1.AddNumbersRequest) (*basicsv1.AddNumbersResponse, error) {
	return &basicsv1.AddNumbersResponse{Sum: req.GetA() + req.GetB()}, nil
}

func (b basics) register(r grpc.ServiceRegistrar) { basicsv1.RegisterBasicsServiceServer(r, b) }

func parrot(_ context.Context, s string) (string, error) { return s, nil }

func TestCall(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.basics(basics{echo: parrot}.register)

	got, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"hé <b>"}`))
	if err != nil {
		t.Fatal(err)
	}
	const json = `{"text":"hé <b>"}`
	want := &executorv1.Result{Result: &providerv1.ToolResult{
		Structured: []byte(json), Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: json}}},
	}}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(want, "provenance")); diff != "" {
		t.Errorf("Call (-want +got):\n%s", diff)
	}

	sum, out := sha256.Sum256([]byte(json)), sha256.Sum256([]byte(json))
	actor := &auditv1.Actor{
		Principal: "key:7Xk2", CredentialId: "7Xk2", Tenant: "acme", Roles: []string{"admin"},
		Address: "192.0.2.7", Client: "test/1", ContextId: "c1",
	}
	event := func(e *auditv1.Event) *auditv1.Event {
		e.DecisionId, e.Actor, e.Action, e.Target = "d_01JDKZ5R9GQ0V4T4M5N6P7Q8R9", actor, "tools/call", "echo"
		return e
	}
	wantEvents := []*auditv1.Event{
		event(&auditv1.Event{What: &auditv1.Event_Intent{Intent: &auditv1.Intent{
			Arguments: &auditv1.Arguments{Sha256: sum[:], Shape: "{…}"}, Service: "basics",
		}}}),
		event(&auditv1.Event{What: &auditv1.Event_Outcome{Outcome: &auditv1.Outcome{
			Status: auditv1.Status_STATUS_OK, ResultBytes: uint64(len(json)), ResultSha256: out[:],
		}}}),
	}
	if diff := cmp.Diff(wantEvents, s.audit.take(), protocmp.Transform(),
		protocmp.IgnoreFields(&auditv1.Outcome{}, "duration")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	// Zero is a result like any other.
	got, _, err = s.call(t.Context(), granted(t, "add_numbers", `{"a":1,"b":-1}`))
	if err != nil || string(got.GetResult().GetStructured()) != `{"sum":0}` {
		t.Errorf("Call = %v, %v", got, err)
	}
}

// Each way in which a call can go wrong has its answer and its record.
func TestCallRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		arguments  string
		echo       func(context.Context, string) (string, error)
		request    func(*executorv1.CallRequest)
		wantReason auditv1.Reason
		wantText   string
		retryable  bool
		wantEvents []string
	}{{
		name:       "arguments that are wrong are not sent",
		arguments:  `{"text":"","x":1}`,
		wantReason: auditv1.Reason_REASON_INVALID_ARGUMENTS,
		wantText:   "The arguments of echo are not right, so it was not called: /x is not known; known are: text. Correct them and call again.",
		wantEvents: []string{"outcome FAILED INVALID_ARGUMENTS"},
	}, {
		name:       "arguments that break a rule are not sent",
		arguments:  `{"text":""}`,
		wantReason: auditv1.Reason_REASON_INVALID_ARGUMENTS,
		wantText:   "The arguments of echo are not right, so it was not called: /text must be at least 1 characters. Correct them and call again.",
		wantEvents: []string{"outcome FAILED INVALID_ARGUMENTS"},
	}, {
		name: "a fault of the tool is passed on",
		echo: func(context.Context, string) (string, error) {
			return "", fault.New(codes.NotFound, customersv1.Reason_REASON_CUSTOMER_UNKNOWN, "no customer 7")
		},
		wantReason: auditv1.Reason_REASON_TOOL_ERROR, wantText: "echo: no customer 7",
		wantEvents: []string{"intent", "outcome FAILED TOOL_ERROR"},
	}, {
		name: "a fault that can pass is retryable",
		echo: func(context.Context, string) (string, error) {
			return "", fault.New(codes.Unavailable, customersv1.Reason_REASON_DATABASE, "no database").After(3 * time.Second)
		},
		wantReason: auditv1.Reason_REASON_TOOL_ERROR, wantText: "echo: no database", retryable: true,
		wantEvents: []string{"intent", "outcome FAILED TOOL_ERROR"},
	}, {
		name: "arguments that only the tool knows to be wrong",
		echo: func(context.Context, string) (string, error) {
			return "", fault.New(codes.InvalidArgument, customersv1.Reason_REASON_DATABASE, "no such column")
		},
		wantReason: auditv1.Reason_REASON_INVALID_ARGUMENTS, wantText: "echo: no such column",
		wantEvents: []string{"intent", "outcome FAILED INVALID_ARGUMENTS"},
	}, {
		name: "what the tool itself forbids",
		echo: func(context.Context, string) (string, error) {
			return "", fault.New(codes.PermissionDenied, customersv1.Reason_REASON_DATABASE, "not that")
		},
		wantReason: auditv1.Reason_REASON_GUARD_BLOCKED, wantText: "echo: not that",
		wantEvents: []string{"intent", "outcome FAILED GUARD_BLOCKED"},
	}, {
		name: "an error that was not written for callers",
		echo: func(context.Context, string) (string, error) {
			return "", errors.New("dial tcp 10.0.0.7:5432: password for root")
		},
		wantReason: auditv1.Reason_REASON_TOOL_ERROR, wantText: "echo: the tool failed.",
		wantEvents: []string{"intent", "outcome FAILED TOOL_ERROR"},
	}, {
		name:       "a tool that panics",
		echo:       func(context.Context, string) (string, error) { panic("secret") },
		wantReason: auditv1.Reason_REASON_TOOL_ERROR, wantText: "echo: the tool failed.",
		wantEvents: []string{"intent", "outcome FAILED TOOL_ERROR"},
	}, {
		name: "a tool that is down",
		echo: func(context.Context, string) (string, error) {
			return "", status.Error(codes.Unavailable, "connection refused: 10.0.0.7")
		},
		wantReason: auditv1.Reason_REASON_TOOL_UNAVAILABLE,
		wantText:   "The service of echo cannot be reached just now. Try again in a few seconds.", retryable: true,
		wantEvents: []string{"intent", "outcome FAILED TOOL_UNAVAILABLE"},
	}, {
		name: "a tool that is slow",
		echo: func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		},
		request:    func(r *executorv1.CallRequest) { r.Timeout = durationpb.New(20 * time.Millisecond) },
		wantReason: auditv1.Reason_REASON_TOOL_TIMEOUT, wantText: "echo did not answer in time.", retryable: true,
		wantEvents: []string{"intent", "outcome FAILED TOOL_TIMEOUT"},
	}, {
		name:       "a result that is too large",
		echo:       func(context.Context, string) (string, error) { return strings.Repeat("x", 5000), nil },
		wantReason: auditv1.Reason_REASON_RESULT_TOO_LARGE,
		wantText:   "echo was called, but its result is larger than 4096 bytes and is not passed on. Ask for less.",
		wantEvents: []string{"intent", "outcome FAILED RESULT_TOO_LARGE"},
	}, {
		name:       "a result that breaks the tool's own rules",
		echo:       func(context.Context, string) (string, error) { return strings.Repeat("x", 10001), nil },
		wantReason: auditv1.Reason_REASON_RESULT_INVALID,
		wantText:   "echo was called, but its result is not what it promises and is not passed on. Trying again will not help.",
		wantEvents: []string{"intent", "outcome FAILED RESULT_INVALID"},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *executor.Config) { c.MaxResultBytes = 4096 })
			if tt.echo == nil {
				tt.echo = func(context.Context, string) (string, error) {
					t.Error("the tool was called")
					return "", nil
				}
			}
			s.basics(basics{echo: tt.echo}.register)
			if tt.arguments == "" {
				tt.arguments = `{"text":"x"}`
			}
			req := granted(t, "echo", tt.arguments)
			if tt.request != nil {
				tt.request(req)
			}
			got, _, err := s.call(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			r := got.GetRefusal()
			if r.GetReason() != tt.wantReason || r.GetMessage() != tt.wantText || r.GetRetryable() != tt.retryable {
				t.Errorf("Call refuses with %v %q (retryable %t), want %v %q (retryable %t)",
					r.GetReason(), r.GetMessage(), r.GetRetryable(), tt.wantReason, tt.wantText, tt.retryable)
			}
			if !got.GetResult().GetIsError() || len(got.GetResult().GetContent()) > 0 || got.GetResult().GetStructured() != nil {
				t.Errorf("Call = %v", got.GetResult())
			}
			if diff := cmp.Diff(tt.wantEvents, kinds(s.audit.take())); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCallUnknownTool(t *testing.T) {
	t.Parallel()
	s := start(t)
	_, _, err := s.call(t.Context(), granted(t, "nothing", `{}`))
	if status.Code(err) != codes.NotFound || !fault.Is(err, executorv1.Reason_REASON_UNKNOWN) {
		t.Errorf("Call: %v", err)
	}
	if diff := cmp.Diff([]string{"outcome FAILED TOOL_UNKNOWN"}, kinds(s.audit.take())); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// customers has accounts to delete.
type customers struct {
	customersv1.UnimplementedCustomersServiceServer
	delete func(context.Context) error
}

func (c customers) DeleteCustomerAccount(ctx context.Context, req *customersv1.DeleteCustomerAccountRequest) (*customersv1.DeleteCustomerAccountResponse, error) {
	if err := c.delete(ctx); err != nil {
		return nil, err
	}
	return &customersv1.DeleteCustomerAccountResponse{CustomerId: req.GetCustomerId(), Deleted: true}, nil
}

func (s *system) customers(deleteIt func(context.Context) error) {
	s.t.Helper()
	s.serve("customers:1", func(r grpc.ServiceRegistrar) {
		customersv1.RegisterCustomersServiceServer(r, customers{delete: deleteIt})
	})
	s.announce("customers", "1", "customers:1", tooltest.Image(s.t, "customers"), "delete_customer_account", "get_customer")
}

// Nothing is deleted that is not in the record: fails closed.
func TestDestructiveCallsAreCommitted(t *testing.T) {
	t.Parallel()
	gone := errors.New("no acknowledgement")
	tests := []struct {
		name       string
		audit      recorder
		wantCode   codes.Code
		wantCalls  int32
		wantEvents []string
	}{
		{"acknowledged", recorder{}, codes.OK, 1, []string{"intent", "outcome OK UNSPECIFIED"}},
		{"not acknowledged", recorder{lost: gone}, codes.Unavailable, 0, []string{"outcome FAILED AUDIT_UNAVAILABLE"}},
		{"no answer in time", recorder{stuck: true}, codes.Unavailable, 0, []string{"outcome FAILED AUDIT_UNAVAILABLE"}},
	}
	for i := range tests {
		tt := &tests[i]
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *executor.Config) {
				c.AuditTimeout = time.Minute
				if tt.audit.stuck {
					c.AuditTimeout = 20 * time.Millisecond
				}
			})
			var calls atomic.Int32
			s.customers(func(context.Context) error { calls.Add(1); return nil })
			s.audit.lost, s.audit.stuck = tt.audit.lost, tt.audit.stuck
			_, _, err := s.call(t.Context(), granted(t, "delete_customer_account", `{"customer_id":7}`))
			if status.Code(err) != tt.wantCode || calls.Load() != tt.wantCalls {
				t.Errorf("Call: %v and %d calls, want %v and %d", err, calls.Load(), tt.wantCode, tt.wantCalls)
			}
			if err != nil && !fault.Is(err, executorv1.Reason_REASON_AUDIT_UNAVAILABLE) {
				t.Errorf("Call: %v, want %v", err, executorv1.Reason_REASON_AUDIT_UNAVAILABLE)
			}
			if diff := cmp.Diff(tt.wantEvents, kinds(s.audit.take())); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// What is not destructive need not wait, but must be in the queue.
func TestCallsAreRecorded(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.basics(basics{echo: func(context.Context, string) (string, error) {
		t.Error("the tool was called")
		return "", nil
	}}.register)
	s.audit.full = errors.New("queue is full")
	_, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"x"}`))
	if status.Code(err) != codes.Unavailable || !fault.Is(err, executorv1.Reason_REASON_AUDIT_UNAVAILABLE) {
		t.Errorf("Call: %v", err)
	}
}

// When a tool that is not idempotent was called and did not answer, nobody
// knows what it did, and the record and the model are told so.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	const doubt = "delete_customer_account was called and did not answer. It may or may not have done it: find out before you call it again."
	tests := []struct {
		name      string
		slow      bool
		delete    func(context.Context) error
		wantText  string
		wantEvent string
	}{
		{"it timed out", true, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, doubt, "outcome UNKNOWN TOOL_TIMEOUT"},
		{"the connection broke", false, func(context.Context) error { return status.Error(codes.Unavailable, "reset") }, doubt, "outcome UNKNOWN TOOL_UNAVAILABLE"},
		{"it panicked", false, func(context.Context) error { panic("x") }, doubt, "outcome UNKNOWN TOOL_ERROR"},
		{"it said no", false, func(context.Context) error {
			return fault.New(codes.NotFound, customersv1.Reason_REASON_CUSTOMER_UNKNOWN, "no customer 7")
		}, "delete_customer_account: no customer 7", "outcome FAILED TOOL_ERROR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			var calls atomic.Int32
			s.customers(func(ctx context.Context) error { calls.Add(1); return tt.delete(ctx) })
			req := granted(t, "delete_customer_account", `{"customer_id":7}`)
			if tt.slow {
				req.Timeout = durationpb.New(30 * time.Millisecond)
			}
			got, _, err := s.call(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if r := got.GetRefusal(); r.GetMessage() != tt.wantText || r.GetRetryable() || calls.Load() > 1 {
				t.Errorf("Call refuses with %v after %d calls", r, calls.Load())
			}
			if diff := cmp.Diff([]string{"intent", tt.wantEvent}, kinds(s.audit.take())); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// A caller who goes away takes the call with him.
func TestCallIsCancelled(t *testing.T) {
	t.Parallel()
	s := start(t)
	called, ended := make(chan struct{}), make(chan error, 1)
	s.basics(basics{echo: func(ctx context.Context, _ string) (string, error) {
		close(called)
		<-ctx.Done()
		ended <- ctx.Err()
		return "", ctx.Err()
	}}.register)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-called
		cancel()
	}()
	_, _, err := s.call(ctx, granted(t, "echo", `{"text":"x"}`))
	if status.Code(err) != codes.Canceled {
		t.Errorf("Call: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the tool's context: %v", err)
	}
}

// One service cannot take all of the executor.
func TestBulkhead(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) { c.Isolation.MaxInFlight, c.Isolation.QueueWait = 2, 0 })
	entered, leave := make(chan struct{}), make(chan struct{})
	s.basics(basics{echo: func(_ context.Context, text string) (string, error) {
		entered <- struct{}{}
		<-leave
		return text, nil
	}}.register)
	done := make(chan error, 2)
	for i := range 2 {
		go func() {
			got, _, err := s.call(t.Context(), granted(t, "echo", fmt.Sprintf(`{"text":"%d"}`, i)))
			if got.GetRefusal() != nil {
				err = errors.New(got.GetRefusal().GetMessage())
			}
			done <- err
		}()
		<-entered
	}
	got, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"x"}`))
	if err != nil || got.GetRefusal().GetReason() != auditv1.Reason_REASON_TOOL_UNAVAILABLE || !got.GetRefusal().GetRetryable() {
		t.Errorf("Call = %v, %v", got, err)
	}
	close(leave)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
