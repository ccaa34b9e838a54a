package executor_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
)

func grantFor(t *testing.T, action authv1.Action, target string) []byte {
	t.Helper()
	return granted(t, target, "{}", func(g *authv1.Grant) { g.Action = action }).GetGrant()
}

func (s *system) read(t *testing.T, uri string) (*executorv1.ReadResourceResponse, error) {
	t.Helper()
	return s.client.ReadResource(t.Context(), &executorv1.ReadResourceRequest{Grant: grantFor(t, authv1.Action_ACTION_RESOURCES_READ, uri), Uri: uri})
}

// library answers each read with its name and what was asked for.
func library(name string, f *fake) *fake {
	f.tools = []*providerv1.ToolDefinition{definition(name)}
	f.read = func(_ context.Context, req *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
		return &providerv1.ReadResourceResponse{Contents: contents(req.GetUri(), name)}, nil
	}
	return f
}

// A resource is asked for at whoever has it, by its URI, by a template, or as
// the only one who has such things.
func TestResources(t *testing.T) {
	t.Parallel()
	s := start(t)
	template := func(text string) *providerv1.ResourceTemplate {
		return &providerv1.ResourceTemplate{UriTemplate: text, Name: text}
	}
	s.provide("a", "1", library("a", &fake{
		resources: []*providerv1.Resource{{Uri: "test://b"}, {Uri: "test://a", Meta: []byte(`{"x":1}`)}, {Uri: "file:///x"}, {Uri: "shared://x"}},
		templates: []*providerv1.ResourceTemplate{template("test://{id}/data"), template("only://{+path}")},
	}), "a")
	s.provide("b", "1", library("b", &fake{
		resources: []*providerv1.Resource{{Uri: "test://a"}, {Uri: "test://c"}, {Uri: "shared://y"}},
		templates: []*providerv1.ResourceTemplate{template("test://special/{id}"), template("test://{id}/data")},
	}), "a", "b")

	list, err := s.client.ListResources(t.Context(), &executorv1.ListResourcesRequest{Grant: grantFor(t, authv1.Action_ACTION_RESOURCES_LIST, "")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list.GetResources() {
		got = append(got, r.GetUri())
	}
	for _, r := range list.GetTemplates() {
		got = append(got, r.GetUriTemplate())
	}
	want := []string{
		"file:///x", "shared://x", "shared://y", "test://a", "test://b", "test://c",
		"only://{+path}", "test://special/{id}", "test://{id}/data",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ListResources (-want +got):\n%s", diff)
	}

	for _, tt := range []struct{ name, uri, want string }{
		{"by its URI", "test://c", "b"},
		{"by its URI, at whoever had it first", "test://a", "a"},
		{"by a template", "test://7/data", "a"},
		{"by the more special template", "test://special/7", "b"},
		{"by a template for paths", "only://a/b/c", "a"},
		{"by its scheme", "file:///y", "a"},
		{"by its scheme, in other case", "FILE:///y", "a"},
		{"two have the scheme", "shared://z", ""},
		{"nobody has the scheme", "nothing://z", ""},
		{"no scheme", "nothing", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.audit.take()
			resp, err := s.read(t, tt.uri)
			if tt.want == "" {
				if status.Code(err) != codes.NotFound || !fault.Is(err, executorv1.Reason_REASON_UNKNOWN) {
					t.Errorf("ReadResource = %v, %v", resp, err)
				}
				if diff := cmp.Diff([]string{"outcome FAILED TOOL_UNKNOWN"}, kinds(s.audit.take())); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				return
			}
			want := &executorv1.ReadResourceResponse{Response: &providerv1.ReadResourceResponse{Contents: contents(tt.uri, tt.want)}}
			if diff := cmp.Diff(want, resp, protocmp.Transform(), protocmp.IgnoreFields(want, "provenance")); err != nil || diff != "" {
				t.Errorf("ReadResource: %v (-want +got):\n%s", err, diff)
			}
			events := s.audit.take()
			if diff := cmp.Diff([]string{"outcome OK UNSPECIFIED"}, kinds(events)); diff != "" {
				t.Fatalf("events (-want +got):\n%s", diff)
			}
			if e := events[0]; e.GetAction() != "resources/read" || e.GetTarget() != tt.uri || e.GetActor().GetPrincipal() != "key:7Xk2" || len(e.GetOutcome().GetResultSha256()) != 32 {
				t.Errorf("event = %v", e)
			}
		})
	}
}

// Each way in which a provider fails a read has its answer and its record.
func TestReadFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		resp       *providerv1.ReadResourceResponse
		err        error
		wantCode   codes.Code
		wantReason fault.Reason
		wantText   string
		wantEvent  string
	}{
		{"there is none", nil, fault.New(codes.NotFound, providerv1.Reason_REASON_UNKNOWN, "no"), codes.NotFound, executorv1.Reason_REASON_UNKNOWN, "there is no such resource", "outcome FAILED TOOL_UNKNOWN"},
		{"nothing is in it", &providerv1.ReadResourceResponse{}, nil, codes.NotFound, executorv1.Reason_REASON_UNKNOWN, "there is no such resource", "outcome FAILED TOOL_UNKNOWN"},
		{"it cannot be served", nil, fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS, "not that"), codes.InvalidArgument, executorv1.Reason_REASON_ARGUMENTS, "not that", "outcome FAILED INVALID_PARAMS"},
		{"what is behind is gone", nil, fault.New(codes.Unavailable, providerv1.Reason_REASON_UPSTREAM, "10.0.0.7"), codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "the provider cannot be reached just now", "outcome FAILED TOOL_UNAVAILABLE"},
		{"it is gone", nil, status.Error(codes.Unavailable, "10.0.0.7"), codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "the provider cannot be reached just now", "outcome FAILED TOOL_UNAVAILABLE"},
		{"it fails", nil, errors.New("10.0.0.7"), codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "the provider failed", "outcome FAILED TOOL_ERROR"},
		{"it is late", nil, context.DeadlineExceeded, codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "the provider did not answer in time", "outcome FAILED TOOL_TIMEOUT"},
		{"too much", &providerv1.ReadResourceResponse{Contents: contents("x://a", strings.Repeat("x", 5000))}, nil, codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "the answer of the provider is too large and is not passed on", "outcome FAILED RESULT_TOO_LARGE"},
		{"far too much", &providerv1.ReadResourceResponse{Contents: contents("x://a", strings.Repeat("x", 1<<20))}, nil, codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "the answer of the provider is too large and is not passed on", "outcome FAILED RESULT_TOO_LARGE"},
		{"no URI", &providerv1.ReadResourceResponse{Contents: contents("a", "x")}, nil, codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "the answer of the provider breaks its contract and is not passed on", "outcome FAILED RESULT_INVALID"},
		{"an answer and a question", &providerv1.ReadResourceResponse{Contents: contents("x://a", "x"), InputRequired: &providerv1.InputRequired{State: []byte("x")}}, nil, codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "the answer of the provider breaks its contract and is not passed on", "outcome FAILED RESULT_INVALID"},
		{"a question for what no client can give", &providerv1.ReadResourceResponse{InputRequired: &providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"tools/call"}}`)}}, nil, codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "the answer of the provider breaks its contract and is not passed on", "outcome FAILED RESULT_INVALID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *executor.Config) { c.MaxResultBytes = 4096 })
			s.provide("ev", "1", &fake{
				tools: []*providerv1.ToolDefinition{definition("t")}, resources: []*providerv1.Resource{{Uri: "x://a"}},
				read: func(context.Context, *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
					return tt.resp, tt.err
				},
			}, "t")
			_, err := s.read(t, "x://a")
			if status.Code(err) != tt.wantCode || !fault.Is(err, tt.wantReason) || status.Convert(err).Message() != tt.wantText {
				t.Errorf("ReadResource: %v, want %v %v %q", err, tt.wantCode, tt.wantReason, tt.wantText)
			}
			if diff := cmp.Diff([]string{tt.wantEvent}, kinds(s.audit.take())); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrompts(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) {
		c.Joining = map[string]joining.Config{"b": {Prefix: "b_", Aliases: map[string]string{"second one": "two"}}}
	})
	asked := make(chan *providerv1.GetPromptRequest, 1)
	fill := func(f *fake) *fake {
		f.prompt = func(_ context.Context, req *providerv1.GetPromptRequest) (*providerv1.GetPromptResponse, error) {
			asked <- req
			return &providerv1.GetPromptResponse{Messages: []*providerv1.PromptMessage{{Role: "user", Content: &providerv1.Content{Kind: &providerv1.Content_Text{Text: req.GetName()}}}}}, nil
		}
		return f
	}
	s.provide("a", "1", fill(&fake{
		tools:   []*providerv1.ToolDefinition{definition("t")},
		prompts: []*providerv1.Prompt{{Name: "p", Arguments: []*providerv1.PromptArgument{{Name: "must", Required: true}, {Name: "may"}}}},
	}), "t")
	s.provide("b", "1", fill(&fake{
		tools: []*providerv1.ToolDefinition{definition("u")}, prompts: []*providerv1.Prompt{{Name: "p"}, {Name: "second one"}, {Name: "not a name"}},
	}), "t", "b_u")

	list, err := s.client.ListPrompts(t.Context(), &executorv1.ListPromptsRequest{Grant: grantFor(t, authv1.Action_ACTION_PROMPTS_LIST, "")})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range list.GetPrompts() {
		names = append(names, p.GetName())
	}
	if diff := cmp.Diff([]string{"b_p", "p", "two"}, names); diff != "" {
		t.Errorf("ListPrompts (-want +got):\n%s", diff)
	}

	tests := []struct {
		name, prompt string
		arguments    map[string]string
		wantRemote   string
		wantCode     codes.Code
		wantReason   fault.Reason
		wantText     string
		wantEvent    string
	}{
		{"all is given", "p", map[string]string{"must": "x"}, "p", codes.OK, nil, "", "outcome OK UNSPECIFIED"},
		{"what must be given is not", "p", map[string]string{"may": "x"}, "", codes.InvalidArgument, executorv1.Reason_REASON_ARGUMENTS, "the prompt needs the arguments must", "outcome FAILED INVALID_PARAMS"},
		{"by its prefix", "b_p", nil, "p", codes.OK, nil, "", "outcome OK UNSPECIFIED"},
		{"by its alias", "two", nil, "second one", codes.OK, nil, "", "outcome OK UNSPECIFIED"},
		{"by the name that it has no more", "second one", nil, "", codes.NotFound, executorv1.Reason_REASON_UNKNOWN, "there is no such prompt", "outcome FAILED TOOL_UNKNOWN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.audit.take()
			resp, err := s.client.GetPrompt(t.Context(), &executorv1.GetPromptRequest{
				Grant: grantFor(t, authv1.Action_ACTION_PROMPTS_GET, tt.prompt), Name: tt.prompt, Arguments: tt.arguments,
			})
			if status.Code(err) != tt.wantCode || tt.wantReason != nil && (!fault.Is(err, tt.wantReason) || status.Convert(err).Message() != tt.wantText) {
				t.Errorf("GetPrompt: %v, want %v %v %q", err, tt.wantCode, tt.wantReason, tt.wantText)
			}
			if tt.wantRemote != "" {
				if got := resp.GetResponse().GetMessages()[0].GetContent().GetText(); got != tt.wantRemote {
					t.Errorf("the prompt is %q there, want %q", got, tt.wantRemote)
				}
				if req := <-asked; req.GetPrincipal().GetId() != "key:7Xk2" || !cmp.Equal(req.GetArguments(), tt.arguments) {
					t.Errorf("the provider is asked %v", req)
				}
			}
			if diff := cmp.Diff([]string{tt.wantEvent}, kinds(s.audit.take())); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) { c.Joining = map[string]joining.Config{"a": {Prefix: "a_"}} })
	completes := func(_ context.Context, req *providerv1.CompleteRequest) (*providerv1.CompleteResponse, error) {
		return &providerv1.CompleteResponse{Values: []string{req.GetPrompt() + req.GetUriTemplate() + "/" + req.GetArgument() + "/" + req.GetValue() + "/" + req.GetContext()["c"]}}, nil
	}
	s.provide("a", "1", &fake{
		tools: []*providerv1.ToolDefinition{definition("t")}, prompts: []*providerv1.Prompt{
			{Name: "p", Arguments: []*providerv1.PromptArgument{{Name: "x"}}},
			{Name: "{p}", Arguments: []*providerv1.PromptArgument{{Name: "x"}}},
		},
		templates: []*providerv1.ResourceTemplate{{UriTemplate: "x://{id}"}}, complete: completes,
	}, "a_t")
	s.provide("b", "1", &fake{
		tools: []*providerv1.ToolDefinition{definition("u")}, prompts: []*providerv1.Prompt{{Name: "q", Arguments: []*providerv1.PromptArgument{{Name: "x"}}}},
	}, "a_t", "u")
	tests := []struct {
		name, prompt, template, argument string
		want                             []string
		wantCode                         codes.Code
	}{
		{"an argument", "a_p", "", "x", []string{"p/x/v/d"}, codes.OK},
		{"a variable", "", "x://{id}", "id", []string{"x://{id}/id/v/d"}, codes.OK},
		{"a provider that has no completion", "q", "", "x", nil, codes.OK},
		{"no such argument", "a_p", "", "y", nil, codes.InvalidArgument},
		{"no such variable", "", "x://{id}", "x", nil, codes.InvalidArgument},
		{"no such prompt", "p", "", "x", nil, codes.NotFound},
		{"no such template", "", "x://{di}", "x", nil, codes.NotFound},
		{"a prompt that auth would take for a template", "a_{p}", "", "x", nil, codes.NotFound},
		{"both", "a_p", "x://{id}", "x", nil, codes.InvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target := tt.prompt
			if target == "" {
				target = tt.template
			}
			resp, err := s.client.Complete(t.Context(), &executorv1.CompleteRequest{
				Grant: grantFor(t, authv1.Action_ACTION_COMPLETE, target),
				Request: &providerv1.CompleteRequest{
					Prompt: tt.prompt, UriTemplate: tt.template, Argument: tt.argument, Value: "v", Context: map[string]string{"c": "d"},
				},
			})
			if status.Code(err) != tt.wantCode {
				t.Fatalf("Complete: %v, want %v", err, tt.wantCode)
			}
			if diff := cmp.Diff(tt.want, resp.GetResponse().GetValues()); diff != "" {
				t.Errorf("Complete (-want +got):\n%s", diff)
			}
		})
	}
}
