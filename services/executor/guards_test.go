package executor_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// leaked is a secret of the shape of GitHub's.
const leaked = "ghp_" + "x7Kq2mVb9TzR4wLp8NcD3fHj6GsYaE1uQo5B"

// found writes the findings of an outcome as short words.
func found(t *testing.T, events []*auditv1.Event) (all []string) {
	t.Helper()
	for _, e := range events {
		if strings.Contains(e.String(), leaked) {
			t.Errorf("a value is in the record: %v", e)
		}
		for _, f := range e.GetOutcome().GetGuardFindings() {
			all = append(all, fmt.Sprintf("%s %s %s %s %d", f.GetAction().String()[13:], f.GetGuard(), f.GetRule(), f.GetPointer(), f.GetCount()))
		}
	}
	return all
}

// Arguments that a guard blocks are refused before the tool, with a sentence that
// says what to do and not what was found.
func TestGuardBlocksArguments(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.parrot()
	result, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"hi\udb40\udc41 there"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `echo was not called: the guard "controls" has found tags in its arguments at /text. Take it out and call again.`
	if r := result.GetRefusal(); r.GetReason() != auditv1.Reason_REASON_GUARD_BLOCKED || r.GetMessage() != want || r.GetRetryable() {
		t.Errorf("refusal = %v", r)
	}
	events := s.audit.take()
	if diff := cmp.Diff([]string{"outcome FAILED GUARD_BLOCKED"}, kinds(events)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"BLOCKED controls tags /text 1"}, found(t, events)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// The answers that a client gives in a later round are arguments too.
func TestGuardBlocksAnswers(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.provide("ev", "1", &fake{tools: []*providerv1.ToolDefinition{definition("t")}, call: plays()}, "t")
	req := granted(t, "t", `{}`)
	req.Round = &providerv1.Round{InputResponses: []byte(`{"q":{"name":"\u202eanna"}}`)}
	result, _, err := s.call(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	want := `t was not called: the guard "controls" has found bidi in its answers at /q/name. Take it out and call again.`
	if got := result.GetRefusal().GetMessage(); got != want {
		t.Errorf("refusal = %q", got)
	}
}

// A secret in a result is replaced, in the data and in the text that is made of it.
func TestGuardRedactsResults(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.parrot()
	result, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"use `+leaked+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"text":"use [removed: secret github-pat]"}`
	r := result.GetResult()
	if got := string(r.GetStructured()); got != want || r.GetContent()[0].GetText() != want {
		t.Errorf("result = %v", result)
	}
	if diff := cmp.Diff([]string{
		"OBSERVED secrets github-pat /text 1", "REDACTED secrets github-pat /structuredContent/text 1",
	}, found(t, s.audit.take())); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// Markers can be longer than what they replace. The bound on results holds all the
// same.
func TestRedactedResultsAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) {
		c.MaxResultBytes, c.Guards.Defaults.Personal.Results = 1024, guard.Redact
	})
	s.parrot()
	result, _, err := s.call(t.Context(), granted(t, "echo", `{"text":"`+strings.Repeat("a@b.co ", 100)+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := "echo was called, but its result is larger than 1024 bytes once guards have replaced what they found, and is not passed on. Ask for less."
	if r := result.GetRefusal(); r.GetReason() != auditv1.Reason_REASON_RESULT_TOO_LARGE || r.GetMessage() != want {
		t.Errorf("refusal = %v", r)
	}
}

// A result that a guard blocks is not passed on, and it is said that the tool was
// called.
func TestGuardBlocksResults(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) {
		c.Guards.Tools = map[string]guard.Set{"mix": {Secrets: guard.Modes{Results: guard.Block}}}
	})
	s.provide("ev", "1", &fake{tools: []*providerv1.ToolDefinition{definition("mix"), definition("other")}, call: plays(resultEvent(textResult("a " + leaked)))}, "mix", "other")
	result, _, err := s.call(t.Context(), granted(t, "mix", `{}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `mix was called, but its result is not passed on: the guard "secrets" has found github-pat at /content/0/text. ` +
		"It was done all the same; calling again will not help. Ask for something else, or ask an operator."
	if r := result.GetRefusal(); r.GetReason() != auditv1.Reason_REASON_GUARD_BLOCKED || r.GetMessage() != want || len(result.GetResult().GetContent()) > 0 {
		t.Errorf("result = %v", result)
	}
	events := s.audit.take()
	if diff := cmp.Diff([]string{"intent", "outcome FAILED GUARD_BLOCKED"}, kinds(events)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"BLOCKED secrets github-pat /content/0/text 1"}, found(t, events)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	// Only that tool is so strict.
	result, _, err = s.call(t.Context(), granted(t, "other", `{}`))
	if got := result.GetResult().GetContent()[0].GetText(); err != nil || got != "a [removed: secret github-pat]" {
		t.Errorf("other: %v, %v", result, err)
	}
}

// What is told beside a result goes through the guards too: progress, notices,
// questions and errors.
func TestGuardsSeeAllThatIsTold(t *testing.T) {
	t.Parallel()
	s := start(t)
	say := func(m *providerv1.CallToolResponse, err error) func(*providerv1.CallToolRequest, grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
		return func(_ *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
			progress := progressEvent(1)
			progress.GetProgress().Message = leaked
			for _, e := range []*providerv1.CallToolResponse{progress, noticeEvent("error", `"`+leaked+`"`), m} {
				if e != nil {
					if err := stream.Send(e); err != nil {
						return err
					}
				}
			}
			return err
		}
	}
	question := leakyQuestion()
	ask := say(question, nil)
	fail := say(nil, fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS, "no %s", leaked))
	s.provide("ev", "1", &fake{
		tools: []*providerv1.ToolDefinition{definition("ask"), definition("fail")},
		call: func(req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
			if req.GetName() == "ask" {
				return ask(req, stream)
			}
			return fail(req, stream)
		},
	}, "ask", "fail")
	for _, name := range []string{"ask", "fail"} {
		req := granted(t, name, `{}`)
		req.WantsProgress, req.LogLevel = true, "debug"
		all := s.told(t.Context(), t, req)
		if len(all) != 3 {
			t.Errorf("%s: %d messages: %v", name, len(all), all)
		}
		for _, m := range all {
			if text := m.String(); strings.Contains(text, leaked) || !strings.Contains(text, "[removed: secret github-pat]") {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}

// Resources and prompts go through the guards as results do, and a role's modes
// hold for them.
func TestGuardsSeeResourcesAndPrompts(t *testing.T) {
	t.Parallel()
	for name, blocked := range map[string]bool{"admin": true, "other": false} {
		question := leakyQuestion()
		s := start(t, func(c *executor.Config) {
			c.Guards.Roles = map[string]guard.Set{name: {Secrets: guard.Modes{Results: guard.Block}}}
		})
		s.provide("ev", "1", &fake{
			tools:     []*providerv1.ToolDefinition{definition("t")},
			resources: []*providerv1.Resource{{Uri: "test://a"}, {Uri: "test://ask"}}, prompts: []*providerv1.Prompt{{Name: "p"}},
			read: func(_ context.Context, req *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
				if req.GetUri() == "test://ask" {
					return &providerv1.ReadResourceResponse{InputRequired: question.GetInputRequired()}, nil
				}
				return &providerv1.ReadResourceResponse{Contents: []*providerv1.ResourceContents{{Uri: "test://a", Body: &providerv1.ResourceContents_Text{Text: leaked}}}}, nil
			},
			prompt: func(context.Context, *providerv1.GetPromptRequest) (*providerv1.GetPromptResponse, error) {
				return &providerv1.GetPromptResponse{Description: "d\u200b", Messages: []*providerv1.PromptMessage{{Role: "user", Content: &providerv1.Content{Kind: &providerv1.Content_Text{Text: leaked}}}}}, nil
			},
		}, "t")
		asked, askErr := s.read(t, "test://ask")
		resource, readErr := s.read(t, "test://a")
		prompt, promptErr := s.client.GetPrompt(t.Context(), &executorv1.GetPromptRequest{Grant: grantFor(t, authv1.Action_ACTION_PROMPTS_GET, "p"), Name: "p"})
		if blocked {
			for what, err := range map[string]error{"resource": readErr, "prompt": promptErr, "question": askErr} {
				if err == nil || !strings.Contains(err.Error(), `is not passed on: the guard "secrets" has found github-pat`) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if diff := cmp.Diff([]string{
				"BLOCKED secrets github-pat /inputRequests/q/params/message 1", "BLOCKED secrets github-pat /contents/0/text 1", "BLOCKED secrets github-pat /messages/0/content/text 1", "REDACTED invisibles zero-width /description 1",
			}, found(t, s.audit.take())); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			continue
		}
		if got := asked.String(); askErr != nil || strings.Contains(got, leaked) || !strings.Contains(got, "[removed: ") {
			t.Errorf("question: %v, %v", got, askErr)
		}
		const gone = "[removed: secret github-pat]"
		if g := resource.GetGuards(); len(g) != 1 || g[0].GetGuard() != "secrets" || g[0].GetRedacted() != 1 || len(prompt.GetGuards()) != 2 {
			t.Errorf("guards: %v, %v", g, prompt.GetGuards())
		}
		if got := resource.GetResponse().GetContents()[0].GetText(); readErr != nil || got != gone {
			t.Errorf("resource: %q, %v", got, readErr)
		}
		if got := prompt.GetResponse().GetMessages()[0].GetContent().GetText(); promptErr != nil || got != gone || prompt.GetResponse().GetDescription() != "d" {
			t.Errorf("prompt: %v, %v", prompt, promptErr)
		}
	}
}

// parrot announces the service "basics" that answers echo with its request.
func (s *system) parrot() {
	s.t.Helper()
	s.connect("basics:1", parrotConn{})
	s.announce("basics", "1", "basics:1", tooltest.Image(s.t, "basics"), "add_numbers", "echo")
}

// leakyQuestion is a question to the client with a secret in it.
func leakyQuestion() *providerv1.CallToolResponse {
	return questionEvent(&providerv1.InputRequired{
		InputRequests: []byte(`{"q":{"method":"elicitation/create","params":{"message":"` + leaked + `","requestedSchema":{"type":"object","properties":{}}}}}`),
	})
}

// told makes a call and returns all messages of it.
func (s *system) told(ctx context.Context, t *testing.T, req *executorv1.CallRequest) (all []*executorv1.CallResponse) {
	t.Helper()
	stream, err := s.client.Call(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return all
		}
		all = append(all, m)
	}
}
