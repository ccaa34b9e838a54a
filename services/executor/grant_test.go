package executor_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// A tool is called only with a grant for exactly this call, and whoever has
// none learns nothing but that.
func TestGrants(t *testing.T) {
	t.Parallel()
	s := start(t)
	var calls atomic.Int32
	s.customers(func(context.Context) error { calls.Add(1); return nil })
	digests := make(map[string][]byte)
	for _, tool := range s.wait("delete_customer_account", "get_customer") {
		digests[tool.GetDefinition().GetName()] = tool.GetDigest()
	}
	const tool, arguments = "delete_customer_account", `{"customer_id":7}`
	grant := func(edit func(*authv1.Grant)) *executorv1.CallRequest {
		return granted(t, tool, arguments, func(g *authv1.Grant) { g.DecisionId = "d_" + t.Name() }, edit)
	}
	tests := []struct {
		name    string
		request *executorv1.CallRequest
		rule    string // in the record
		known   bool   // the record says who
	}{
		{"noise", &executorv1.CallRequest{Grant: []byte("noise"), Tool: tool, Arguments: []byte(arguments)}, "malformed", false},
		{"another key", func() *executorv1.CallRequest {
			r := grant(func(*authv1.Grant) {})
			r.Grant[len(r.Grant)-1] ^= 1
			return r
		}(), "forged", false},
		{"expired", grant(func(g *authv1.Grant) { g.Expires = timestamppb.New(time.Now().Add(-time.Second)) }), "expired", true},
		{"another tool", func() *executorv1.CallRequest {
			r := granted(t, "get_customer", arguments)
			r.Tool = tool
			return r
		}(), "for another call", true},
		{"other arguments", func() *executorv1.CallRequest {
			r := grant(func(*authv1.Grant) {})
			r.Arguments = []byte(`{"customer_id":8}`)
			return r
		}(), "for another call", true},
		{"the same arguments in other bytes", func() *executorv1.CallRequest {
			r := grant(func(*authv1.Grant) {})
			r.Arguments = []byte(`{"customer_id": 7}`)
			return r
		}(), "for another call", true},
		{"another action", grant(func(g *authv1.Grant) { g.Action = authv1.Action_ACTION_RESOURCES_READ }), "for another call", true},
		{"another definition of the tool", grant(func(g *authv1.Grant) { g.ToolDigest = bytes.Repeat([]byte{1}, 32) }), "for another definition of the tool", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := s.call(t.Context(), tt.request)
			if status.Code(err) != codes.PermissionDenied || !fault.Is(err, executorv1.Reason_REASON_GRANT) {
				t.Errorf("Call: %v", err)
			}
			if got := status.Convert(err).Message(); got != "the call is not granted" {
				t.Errorf("Call tells %q", got)
			}
			events := s.audit.take()
			if diff := cmp.Diff([]string{"decision DENY GRANT_INVALID grant: " + tt.rule}, kinds(events)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if got := events[0].GetActor().GetPrincipal() != ""; got != tt.known {
				t.Errorf("the record says who: %t, want %t", got, tt.known)
			}
		})
	}
	if calls.Load() != 0 {
		t.Errorf("%d calls got through", calls.Load())
	}

	t.Run("a grant for a destructive tool is good once", func(t *testing.T) {
		r := grant(func(g *authv1.Grant) { g.ToolDigest = digests[tool] })
		for i, want := range []codes.Code{codes.OK, codes.PermissionDenied, codes.PermissionDenied} {
			if _, _, err := s.call(t.Context(), r); status.Code(err) != want {
				t.Errorf("call %d: %v, want %v", i+1, err, want)
			}
		}
		if calls.Load() != 1 {
			t.Errorf("%d calls, want 1", calls.Load())
		}
		want := []string{"intent", "outcome OK UNSPECIFIED", "decision DENY GRANT_INVALID grant: used before", "decision DENY GRANT_INVALID grant: used before"}
		if diff := cmp.Diff(want, kinds(s.audit.take())); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
	t.Run("a grant for another tool may be used again", func(t *testing.T) {
		r := granted(t, "get_customer", arguments)
		for range 2 {
			got, _, err := s.call(t.Context(), r)
			if err != nil || got.GetRefusal().GetMessage() != "get_customer: the tool failed." { // unimplemented here
				t.Errorf("Call = %v, %v", got, err)
			}
		}
	})
}

// Where there are no resources, prompts or completions, that is the answer,
// to those who may ask.
func TestNothingElse(t *testing.T) {
	t.Parallel()
	s := start(t)
	grant := func(action authv1.Action, target string) []byte {
		return granted(t, target, "{}", func(g *authv1.Grant) { g.Action = action }).GetGrant()
	}
	tests := []struct {
		name   string
		action authv1.Action
		target string
		ask    func(grant []byte) error
		want   codes.Code
	}{
		{"resources", authv1.Action_ACTION_RESOURCES_LIST, "", func(g []byte) error {
			_, err := s.client.ListResources(t.Context(), &executorv1.ListResourcesRequest{Grant: g})
			return err
		}, codes.OK},
		{"one resource", authv1.Action_ACTION_RESOURCES_READ, "x://y", func(g []byte) error {
			_, err := s.client.ReadResource(t.Context(), &executorv1.ReadResourceRequest{Grant: g, Uri: "x://y"})
			return err
		}, codes.NotFound},
		{"prompts", authv1.Action_ACTION_PROMPTS_LIST, "", func(g []byte) error {
			_, err := s.client.ListPrompts(t.Context(), &executorv1.ListPromptsRequest{Grant: g})
			return err
		}, codes.OK},
		{"one prompt", authv1.Action_ACTION_PROMPTS_GET, "p", func(g []byte) error {
			_, err := s.client.GetPrompt(t.Context(), &executorv1.GetPromptRequest{Grant: g, Name: "p"})
			return err
		}, codes.NotFound},
		{"a completion", authv1.Action_ACTION_COMPLETE, "p", func(g []byte) error {
			_, err := s.client.Complete(t.Context(), &executorv1.CompleteRequest{
				Grant: g, Request: &providerv1.CompleteRequest{Prompt: "p", Argument: "a"},
			})
			return err
		}, codes.NotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.ask(grant(tt.action, tt.target)); status.Code(err) != tt.want {
				t.Errorf("with a grant: %v, want %v", err, tt.want)
			}
			for _, bad := range [][]byte{nil, grant(authv1.Action_ACTION_TOOLS_CALL, tt.target), grant(tt.action, "another")} {
				if err := tt.ask(bad); status.Code(err) != codes.PermissionDenied {
					t.Errorf("without: %v, want %v", err, codes.PermissionDenied)
				}
			}
		})
	}
}
