package executor_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// usageOf makes a call, and returns what the caller is told it has used.
func usageOf(t *testing.T, s *system, req *executorv1.CallRequest) *executorv1.Usage {
	t.Helper()
	stream, err := s.client.Call(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var usage *executorv1.Usage
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return usage
		}
		if err != nil {
			t.Fatal(err)
		}
		usage = resp.GetUsage()
	}
}

// What a tool reports is told to the caller and recorded; and where nobody knows,
// what the operator expects is.
func TestUsageOfACall(t *testing.T) {
	t.Parallel()
	rows := func(n uint64) *auditv1.Used { return &auditv1.Used{Unit: "rows", Amount: n} }
	noRows := &auditv1.Used{Unit: "rows", Amount: 10, Estimated: true}
	cents := func(n uint64) *auditv1.Used { return &auditv1.Used{Unit: "cents", Amount: n} }
	noCents := &auditv1.Used{Unit: "cents", Amount: 3, Estimated: true}
	raw := func(ctx context.Context, value string) {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("sallyport-used", value))
	}
	tests := []struct {
		name      string
		arguments string
		report    func(context.Context)
		err       error
		want      []*auditv1.Used // nil for none at all
		logged    string
	}{
		{name: "all is reported", report: func(ctx context.Context) {
			toolkit.Used(ctx, "rows", 7)
			toolkit.Used(ctx, "cents", 0)
			toolkit.Used(ctx, "rows", 1)
		}, want: []*auditv1.Used{cents(0), rows(8)}},
		{name: "one unit is not", report: func(ctx context.Context) { toolkit.Used(ctx, "rows", 50) }, want: []*auditv1.Used{noCents, rows(50)}},
		{name: "nothing is", want: []*auditv1.Used{noCents, noRows}},
		{
			name: "more than there can be", report: func(ctx context.Context) { toolkit.Used(ctx, "rows", 51) },
			want: []*auditv1.Used{noCents, {Unit: "rows", Amount: 50, Capped: true}},
		},
		{name: "what is malformed counts for nothing", report: func(ctx context.Context) {
			toolkit.Used(ctx, "rows", 1)
			raw(ctx, "cents=-1")
		}, want: []*auditv1.Used{noCents, noRows}, logged: "cannot be read"},
		{name: "a unit that is not named", report: func(ctx context.Context) {
			toolkit.Used(ctx, "rows", 1)
			toolkit.Used(ctx, "llm_tokens", 1)
		}, want: []*auditv1.Used{noCents, rows(1)}, logged: "does not name"},
		{
			name: "with an error", report: func(ctx context.Context) { toolkit.Used(ctx, "rows", 2) },
			err: fault.New(codes.NotFound, faultv1.Reason_REASON_INVALID, "no"), want: []*auditv1.Used{noCents, rows(2)},
		},
		{name: "an error says nothing of it", err: status.Error(codes.Internal, "no"), want: []*auditv1.Used{noCents, noRows}},
		{name: "a service that is not ready has done nothing", err: fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY, "no")},
		{name: "arguments that are wrong are not sent", arguments: `{"text":7}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *executor.Config) {
				c.Joining = map[string]joining.Config{"basics": {Tools: map[string]joining.Options{
					"echo": {Uses: map[string]joining.Use{"rows": {Estimate: 10, Most: 50}, "cents": {Estimate: 3}}},
				}}}
			})
			s.basics(basics{echo: func(ctx context.Context, text string) (string, error) {
				if tt.report != nil {
					tt.report(ctx)
				}
				return text, tt.err
			}}.register)
			if tt.arguments == "" {
				tt.arguments = `{"text":"a"}`
			}
			want := &executorv1.Usage{None: tt.want == nil, Used: tt.want}
			got := usageOf(t, s, granted(t, "echo", tt.arguments))
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
			events := s.audit.take()
			if diff := cmp.Diff(tt.want, events[len(events)-1].GetOutcome().GetUsed(), protocmp.Transform()); diff != "" {
				t.Errorf("recorded (-want +got):\n%s", diff)
			}
			if tt.logged != "" && s.logged(tt.logged) != 1 {
				t.Errorf("logged %q %d times, want once", tt.logged, s.logged(tt.logged))
			}
			if usage := usageOf(t, s, granted(t, "add_numbers", `{"a":1,"b":1}`)); usage != nil {
				t.Errorf("of a tool that names no units: got %v", usage)
			}
		})
	}
}

// A service that cannot be reached was not called.
func TestUsageOfACallThatWasNotSent(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) {
		c.Joining = map[string]joining.Config{"basics": {Tools: map[string]joining.Options{
			"echo": {Uses: map[string]joining.Use{"rows": {Estimate: 10}}},
		}}}
	})
	s.connect("basics:1", down{})
	s.announce("basics", "1", "basics:1", tooltest.Image(t, "basics"), "add_numbers", "echo")
	got := usageOf(t, s, granted(t, "echo", `{"text":"a"}`))
	if diff := cmp.Diff(&executorv1.Usage{None: true}, got, protocmp.Transform()); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}
