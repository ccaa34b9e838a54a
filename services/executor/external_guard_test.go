package executor_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	guardv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/guard/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
)

// model is an external guard: "bad" is to be replaced, and at "stall" it never answers.
type model struct {
	guardv1.UnimplementedGuardServiceServer
}

// Check implements [guardv1.GuardServiceServer].
func (model) Check(ctx context.Context, req *guardv1.CheckRequest) (*guardv1.CheckResponse, error) {
	resp := &guardv1.CheckResponse{Verdict: guardv1.Verdict_VERDICT_ALLOW}
	for i, p := range req.GetParts() {
		switch at := strings.Index(p.GetText(), "bad"); {
		case p.GetText() == "stall":
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		case at >= 0:
			resp.Verdict, resp.Score = guardv1.Verdict_VERDICT_REDACT, 0.9
			resp.Findings = append(resp.Findings, &guardv1.Finding{Rule: "bad-word", Part: uint32(i), Start: uint32(at), End: uint32(at) + 3})
		}
	}
	return resp, nil
}

// A call meets an external guard on both sides: what it says is done, and where it says
// nothing the tool's risk decides.
func TestExternalGuard(t *testing.T) {
	t.Parallel()
	const again = "It was done all the same; calling again will not help. Ask for something else, or ask an operator."
	before, after := guard.Modes{Arguments: guard.Redact}, guard.Modes{Results: guard.Redact}
	for _, tt := range []struct {
		name, tool string
		modes      guard.Modes
		argument   string
		result     string
		text       string // of the result
		refusal    string
		retryable  bool
		events     []string
		findings   []string
	}{
		{
			name: "arguments", tool: "look", modes: before, argument: "a bad day",
			refusal:  `look was not called: the guard "external" has found bad-word in its arguments at /x. Take it out and call again.`,
			events:   []string{"outcome FAILED GUARD_BLOCKED"},
			findings: []string{"BLOCKED external bad-word /x 1"},
		},
		{
			name: "a result", tool: "act", modes: after, result: "a bad day", text: "a [removed: bad-word] day",
			events:   []string{"intent", "outcome OK UNSPECIFIED"},
			findings: []string{"REDACTED external bad-word /content/0/text 1"},
		},
		{
			name: "no answer, before what may destroy", tool: "act", modes: before, argument: "stall",
			refusal:   `act was not called: the guard "external" has not looked at its arguments (failed:timeout), and without that it may not be called. Try again later.`,
			retryable: true,
			events:    []string{"outcome FAILED GUARD_BLOCKED"},
			findings:  []string{"BLOCKED external failed:timeout  1"},
		},
		{
			name: "no answer, after it", tool: "act", modes: after, result: "stall",
			refusal:  `act was called, but its result is not passed on: the guard "external" has not looked at it (failed:timeout), and without that it may not be. ` + again,
			events:   []string{"intent", "outcome FAILED GUARD_BLOCKED"},
			findings: []string{"BLOCKED external failed:timeout  1"},
		},
		{
			name: "no answer, before what reads", tool: "look", modes: before, argument: "stall", result: "fine", text: "fine",
			events:   []string{"intent", "outcome OK UNSPECIFIED"},
			findings: []string{"OBSERVED external failed:timeout  1"},
		},
		{
			name: "no answer, after it has read", tool: "look", modes: after, result: "stall", text: "stall",
			events:   []string{"intent", "outcome OK UNSPECIFIED"},
			findings: []string{"OBSERVED external failed:timeout  1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *executor.Config) {
				c.Guards.External.Address, c.Guards.External.Deadline = "guard:1", 10*time.Second
				if tt.argument == "stall" || tt.result == "stall" {
					c.Guards.External.Deadline = 20 * time.Millisecond
				}
				c.Guards.Tools = map[string]guard.Set{tt.tool: {External: guard.External{Modes: tt.modes}}}
			})
			s.serve("guard:1", func(r grpc.ServiceRegistrar) { guardv1.RegisterGuardServiceServer(r, model{}) })
			risky := definition("act", func(d *providerv1.ToolDefinition) { d.Options.Risk = toolv1.Risk_RISK_UNSPECIFIED })
			s.provide("ev", "1", &fake{tools: []*providerv1.ToolDefinition{definition("look"), risky}, call: plays(resultEvent(textResult(tt.result)))}, "act", "look")
			result, _, err := s.call(t.Context(), granted(t, tt.tool, `{"x":"`+tt.argument+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			no := result.GetRefusal()
			if no.GetMessage() != tt.refusal || no.GetRetryable() != tt.retryable || tt.refusal != "" && no.GetReason() != auditv1.Reason_REASON_GUARD_BLOCKED {
				t.Errorf("refusal = %v", no)
			}
			if tt.refusal == "" && result.GetResult().GetContent()[0].GetText() != tt.text {
				t.Errorf("result = %v", result)
			}
			events := s.audit.take()
			if diff := cmp.Diff(tt.events, kinds(events)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.findings, found(t, events)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// An external guard that is not there leaves tools that read as they are, and those
// that do not uncalled.
func TestExternalGuardIsAway(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) {
		c.Guards.External.Address = "guard:1"
		c.Guards.Defaults.External.Arguments = guard.Block
	})
	risky := definition("act", func(d *providerv1.ToolDefinition) { d.Options.Risk = toolv1.Risk_RISK_WRITE })
	s.provide("ev", "1", &fake{tools: []*providerv1.ToolDefinition{definition("look"), risky}, call: plays(resultEvent(textResult("done")))}, "act", "look")
	for tool, want := range map[string]string{
		"look": "", "act": `act was not called: the guard "external" has not looked at its arguments (failed:unavailable), and without that it may not be called. Try again later.`,
	} {
		result, _, err := s.call(t.Context(), granted(t, tool, `{"x":"y"}`))
		if err != nil || result.GetRefusal().GetMessage() != want {
			t.Errorf("%s: %v, %v", tool, result, err)
		}
	}
}
