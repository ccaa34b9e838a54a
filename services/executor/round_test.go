package executor_test

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

const askName = `{"name":{"method":"elicitation/create","params":{"message":"Who?"}}}`

// asker asks who it is, and says which replica it is that goes on.
func asker(replica string) *fake {
	state := []byte("state of " + replica)
	return &fake{
		tools:     []*providerv1.ToolDefinition{definition("greet", func(d *providerv1.ToolDefinition) { d.Options.Risk = toolv1.Risk_RISK_DESTRUCTIVE })},
		resources: []*providerv1.Resource{{Uri: "x://a"}},
		prompts:   []*providerv1.Prompt{{Name: "p"}},
		call: func(req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
			if len(req.GetRound().GetState()) == 0 {
				return stream.Send(questionEvent(&providerv1.InputRequired{InputRequests: []byte(askName), State: state}))
			}
			return stream.Send(resultEvent(textResult(replica + " " + string(req.GetRound().GetState()) + " " + string(req.GetRound().GetInputResponses()))))
		},
		read: func(_ context.Context, req *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
			if len(req.GetRound().GetState()) == 0 {
				return &providerv1.ReadResourceResponse{InputRequired: &providerv1.InputRequired{State: state}}, nil
			}
			return &providerv1.ReadResourceResponse{Contents: contents("x://a", replica+" "+string(req.GetRound().GetState()))}, nil
		},
		prompt: func(_ context.Context, req *providerv1.GetPromptRequest) (*providerv1.GetPromptResponse, error) {
			if len(req.GetRound().GetState()) == 0 {
				return &providerv1.GetPromptResponse{InputRequired: &providerv1.InputRequired{InputRequests: []byte(askName), State: state}}, nil
			}
			return &providerv1.GetPromptResponse{Description: replica + " " + string(req.GetRound().GetState())}, nil
		},
	}
}

func contents(uri, text string) []*providerv1.ResourceContents {
	return []*providerv1.ResourceContents{{Uri: uri, Body: &providerv1.ResourceContents_Text{Text: text}}}
}

// The client's answer goes to the replica that has asked, and to no other.
func TestRounds(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.provide("ev", "1", asker("1"), "greet")
	s.provide("ev", "2", asker("2"), "greet")
	decision := 0
	call := func(round *providerv1.Round) *executorv1.CallResponse {
		t.Helper()
		decision++
		req := granted(t, "greet", `{}`, func(g *authv1.Grant) { g.DecisionId += strconv.Itoa(decision) })
		req.Round = round
		return s.last(t, req)
	}
	asked := make(map[string]bool)
	for len(asked) < 2 { // the second joins without anybody noticing
		q := call(nil).GetInputRequired()
		if diff := cmp.Diff(askName, string(q.GetInputRequests())); diff != "" {
			t.Fatalf("question (-want +got):\n%s", diff)
		}
		_, replica, ok := strings.Cut(string(q.GetState()), "state of ")
		if !ok || string(q.GetState()) == "state of "+replica {
			t.Fatalf("state = %q", q.GetState())
		}
		asked[replica] = true
		for range 3 {
			got := call(&providerv1.Round{State: q.GetState(), InputResponses: []byte(`{"name":1}`)}).GetResult()
			if text := got.GetResult().GetContent()[0].GetText(); text != replica+" state of "+replica+` {"name":1}` {
				t.Errorf("result = %q, asked by %q", text, replica)
			}
		}
	}
	for _, e := range s.audit.take() {
		if o := e.GetOutcome(); o != nil && (o.GetStatus() != auditv1.Status_STATUS_OK || o.GetReason() != 0) {
			t.Errorf("outcome = %v", o)
		}
	}

	// A grant for a destructive tool is good for one round.
	req := granted(t, "greet", `{}`, func(g *authv1.Grant) { g.DecisionId = "d_1" })
	q := s.last(t, req).GetInputRequired()
	req.Round = &providerv1.Round{State: q.GetState()}
	if _, err := s.events(t.Context(), req); !fault.Is(err, executorv1.Reason_REASON_GRANT) {
		t.Errorf("a second round with the same grant: %v", err)
	}

	// When the replica is gone nobody else goes on.
	_, replica, _ := strings.Cut(string(q.GetState()), "state of ")
	s.leave("ev", replica, "greet")
	// News of the bus come in order.
	s.provide("last", "1", &fake{tools: []*providerv1.ToolDefinition{definition("last")}}, "greet", "last")
	s.audit.take()
	const gone = "The service that asked is gone. greet did not go on; call it again from the start."
	for _, state := range [][]byte{q.GetState(), []byte("noise"), {1}, []byte(strings.Repeat("x", 65536))} {
		got := call(&providerv1.Round{State: state}).GetResult().GetRefusal()
		if got.GetMessage() != gone || got.GetReason() != auditv1.Reason_REASON_TOOL_UNAVAILABLE || got.GetRetryable() {
			t.Errorf("Call refuses with %v", got)
		}
		if diff := cmp.Diff([]string{"outcome FAILED TOOL_UNAVAILABLE"}, kinds(s.audit.take())); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	}
}

// A tool that is an RPC asks nothing, and is told no answers.
func TestRoundsAreNotForRPCs(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.basics(says("x"))
	req := granted(t, "echo", `{"text":"x"}`)
	req.Round = &providerv1.Round{InputResponses: []byte(`{"a":1}`), ClientCapabilities: []byte(`{}`)}
	if got := s.last(t, req).GetResult(); got.GetRefusal() != nil {
		t.Errorf("Call = %v", got)
	}
	req.Round.State = []byte("x")
	if got := s.last(t, req).GetResult().GetRefusal(); !strings.HasPrefix(got.GetMessage(), "The service that asked is gone.") {
		t.Errorf("Call refuses with %v", got)
	}
}

// Resources and prompts can ask as well.
func TestRoundsOfResourcesAndPrompts(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.provide("ev", "1", asker("1"), "greet")
	s.provide("ev", "2", asker("2"), "greet")
	s.provide("other", "1", &fake{tools: []*providerv1.ToolDefinition{definition("seen")}}, "greet", "seen")
	read := func(round *providerv1.Round) (*providerv1.ReadResourceResponse, error) {
		resp, err := s.client.ReadResource(t.Context(), &executorv1.ReadResourceRequest{
			Grant: grantFor(t, authv1.Action_ACTION_RESOURCES_READ, "x://a"), Uri: "x://a", Round: round,
		})
		return resp.GetResponse(), err
	}
	prompt := func(round *providerv1.Round) (*providerv1.GetPromptResponse, error) {
		resp, err := s.client.GetPrompt(t.Context(), &executorv1.GetPromptRequest{
			Grant: grantFor(t, authv1.Action_ACTION_PROMPTS_GET, "p"), Name: "p", Round: round,
		})
		return resp.GetResponse(), err
	}
	for range 3 {
		q, err := read(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, replica, _ := strings.Cut(string(q.GetInputRequired().GetState()), "state of ")
		got, err := read(&providerv1.Round{State: q.GetInputRequired().GetState()})
		if err != nil || got.GetContents()[0].GetText() != replica+" state of "+replica {
			t.Errorf("ReadResource = %v, %v; want it from %q", got, err, replica)
		}
		p, err := prompt(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, replica, _ = strings.Cut(string(p.GetInputRequired().GetState()), "state of ")
		rendered, err := prompt(&providerv1.Round{State: p.GetInputRequired().GetState()})
		if err != nil || rendered.GetDescription() != replica+" state of "+replica {
			t.Errorf("GetPrompt = %v, %v; want it from %q", rendered, err, replica)
		}
	}
	_, err := read(&providerv1.Round{State: []byte("noise")})
	if status.Code(err) != codes.Unavailable || !fault.Is(err, executorv1.Reason_REASON_PROVIDER) ||
		status.Convert(err).Message() != "The service that asked is gone. Start again without its state." {
		t.Errorf("ReadResource: %v", err)
	}
}
