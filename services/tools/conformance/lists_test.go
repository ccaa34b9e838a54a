package conformance_test

import (
	"testing"

	"buf.build/go/protovalidate"
	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

func TestResources(t *testing.T) {
	t.Parallel()
	c := client(t)
	list, err := c.ListResources(t.Context(), &providerv1.ListResourcesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := protovalidate.Validate(list); err != nil {
		t.Errorf("the list breaks its contract: %v", err)
	}
	if len(list.GetResources()) != 3 || len(list.GetTemplates()) != 1 {
		t.Errorf("got %d resources and %d templates, want 3 and 1", len(list.GetResources()), len(list.GetTemplates()))
	}
	for _, r := range list.GetResources() {
		if r.GetName() == "" || r.GetDescription() == "" {
			t.Errorf("%s has no name or no description", r.GetUri())
		}
	}
	tests := []struct {
		name, uri, mimeType, text string
		blob, unknown             bool
	}{
		{name: "a text", uri: "test://static-text", mimeType: "text/plain", text: "This is the content of the static text resource."},
		{name: "an image", uri: "test://static-binary", mimeType: "image/png", blob: true},
		{name: "one that changes", uri: "test://watched-resource", mimeType: "text/plain", text: "Watched resource content after 0 changes"},
		{
			name: "one of a template", uri: "test://template/123/data", mimeType: "application/json",
			text: `{"id":"123","templateTest":true,"data":"Data for ID: 123"}`,
		},
		{
			name: "one of a template with encoded bytes that are no text", uri: "test://template/a%20%22%ff/data", mimeType: "application/json",
			text: `{"id":"a \"\ufffd","templateTest":true,"data":"Data for ID: a \"\ufffd"}`,
		},
		{name: "a template's without its variable", uri: "test://template//data", unknown: true},
		{name: "a template's with too much", uri: "test://template/1/2/data", unknown: true},
		{name: "a template's with a bad escape", uri: "test://template/%zz/data", unknown: true},
		{name: "none", uri: "test://nonexistent-resource-for-conformance-testing", unknown: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.ReadResource(t.Context(), &providerv1.ReadResourceRequest{Uri: tt.uri})
			if tt.unknown {
				if !fault.Is(err, providerv1.Reason_REASON_UNKNOWN) {
					t.Errorf("got %v, %v, want REASON_UNKNOWN", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got.GetContents()) != 1 {
				t.Fatalf("got %d contents, want 1", len(got.GetContents()))
			}
			r := got.GetContents()[0]
			if r.GetUri() != tt.uri || r.GetMimeType() != tt.mimeType || r.GetText() != tt.text || (len(r.GetBlob()) > 0) != tt.blob {
				t.Errorf("got %v", r)
			}
		})
	}
}

func TestPrompts(t *testing.T) {
	t.Parallel()
	c := client(t)
	list, err := c.ListPrompts(t.Context(), &providerv1.ListPromptsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := protovalidate.Validate(list); err != nil || len(list.GetPrompts()) != 5 {
		t.Errorf("got %d prompts, want 5 by the contract (%v)", len(list.GetPrompts()), err)
	}
	tests := []struct {
		name, prompt string
		arguments    map[string]string
		answers      string
		want         []string
		wantReason   fault.Reason
	}{
		{name: "a simple one", prompt: "test_simple_prompt", want: []string{"This is a simple prompt for testing."}},
		{
			name: "one with arguments", prompt: "test_prompt_with_arguments", arguments: map[string]string{"arg1": "hello", "arg2": "world"},
			want: []string{"Prompt with arguments: arg1='hello', arg2='world'"},
		},
		{name: "one without an argument it needs", prompt: "test_prompt_with_arguments", arguments: map[string]string{"arg1": "hello"}, wantReason: providerv1.Reason_REASON_ARGUMENTS},
		{
			name: "one with a resource", prompt: "test_prompt_with_embedded_resource", arguments: map[string]string{"resourceUri": "test://example-resource"},
			want: []string{"resource test://example-resource text/plain Embedded resource content for testing.", "Please process the embedded resource above."},
		},
		{
			name: "one with a URI that is too long", prompt: "test_prompt_with_embedded_resource",
			arguments: map[string]string{"resourceUri": string(make([]byte, 2049))}, wantReason: providerv1.Reason_REASON_ARGUMENTS,
		},
		{name: "one with an image", prompt: "test_prompt_with_image", want: []string{"image image/png PNG", "Please analyze the image above."}},
		{
			name: "one that asks, answered", prompt: "test_input_required_result_prompt",
			answers: `{"user_context":{"action":"accept","content":{"context":"test context"}}}`, want: []string{"Use this context: test context"},
		},
		{name: "one that asks, answered with nonsense", prompt: "test_input_required_result_prompt", answers: `[]`, wantReason: providerv1.Reason_REASON_ARGUMENTS},
		{name: "none", prompt: "test_dynamic_prompt", wantReason: providerv1.Reason_REASON_UNKNOWN},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.GetPrompt(t.Context(), &providerv1.GetPromptRequest{
				Name: tt.prompt, Arguments: tt.arguments, Round: &providerv1.Round{InputResponses: []byte(tt.answers)},
			})
			if tt.wantReason != nil {
				if !fault.Is(err, tt.wantReason) {
					t.Errorf("got %v, %v, want %v", got, err, tt.wantReason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, m := range got.GetMessages() {
				if m.GetRole() != "user" {
					t.Errorf("got role %q", m.GetRole())
				}
				lines = append(lines, describeContent(m.GetContent()))
			}
			if diff := cmp.Diff(tt.want, lines); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPromptThatAsks(t *testing.T) {
	t.Parallel()
	got, err := client(t).GetPrompt(t.Context(), &providerv1.GetPromptRequest{Name: "test_input_required_result_prompt"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"user_context":{"method":"elicitation/create","params":{"message":"What context should the prompt use?",` +
		`"requestedSchema":{"type":"object","properties":{"context":{"type":"string"}},"required":["context"]}}}}`
	if in := got.GetInputRequired(); string(in.GetInputRequests()) != want || len(got.GetMessages()) > 0 || in.GetState() != nil {
		t.Errorf("got %v, want the questions %s", got, want)
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		req        *providerv1.CompleteRequest
		want       []string
		wantReason fault.Reason
	}{
		{name: "an argument of a prompt", req: &providerv1.CompleteRequest{Prompt: "test_prompt_with_arguments", Argument: "arg1", Value: "par"}, want: []string{"paris", "park", "party"}},
		{name: "a variable of a template", req: &providerv1.CompleteRequest{UriTemplate: "test://template/{id}/data", Argument: "id", Value: "12"}, want: []string{"12", "123"}},
		{name: "a value that nothing begins with", req: &providerv1.CompleteRequest{Prompt: "test_prompt_with_arguments", Argument: "arg2", Value: "z"}},
		{name: "an argument without suggestions", req: &providerv1.CompleteRequest{Prompt: "test_prompt_with_embedded_resource", Argument: "resourceUri"}},
		{name: "a prompt that is not there", req: &providerv1.CompleteRequest{Prompt: "nope", Argument: "x"}, wantReason: providerv1.Reason_REASON_UNKNOWN},
		{name: "a template that is not there", req: &providerv1.CompleteRequest{UriTemplate: "nope://{x}", Argument: "x"}, wantReason: providerv1.Reason_REASON_UNKNOWN},
	}
	c := client(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.Complete(t.Context(), tt.req)
			if tt.wantReason != nil {
				if !fault.Is(err, tt.wantReason) {
					t.Errorf("got %v, %v, want %v", got, err, tt.wantReason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.GetValues()); diff != "" || got.GetTotal() != uint32(len(tt.want)) || got.GetHasMore() {
				t.Errorf("got %v (-want +got):\n%s", got, diff)
			}
		})
	}
}
