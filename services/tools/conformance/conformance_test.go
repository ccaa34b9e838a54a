package conformance_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/tools/conformance"
)

func client(t testing.TB) providerv1.ProviderServiceClient {
	t.Helper()
	return providerv1.NewProviderServiceClient(rpctest.Serve(t, conformance.New().Register, rpctest.As("executor")))
}

// call calls a tool and tells what came, one event a line. The last event is
// returned whole.
func call(ctx context.Context, t testing.TB, c providerv1.ProviderServiceClient, req *providerv1.CallToolRequest) ([]string, *providerv1.CallToolResponse, error) {
	t.Helper()
	if req.Arguments == nil {
		req.Arguments = []byte("{}")
	}
	stream, err := c.CallTool(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	var last *providerv1.CallToolResponse
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return lines, last, nil
		}
		if err != nil {
			return lines, last, err
		}
		if err := protovalidate.Validate(event); err != nil {
			t.Errorf("an event breaks its contract: %v", err)
		}
		if last.GetResult() != nil || last.GetInputRequired() != nil {
			t.Errorf("%v came after the end", event)
		}
		last = event
		lines = append(lines, describe(t, event))
	}
}

func describe(t testing.TB, event *providerv1.CallToolResponse) string {
	t.Helper()
	switch {
	case event.GetProgress() != nil:
		b, err := json.Marshal([]float64{event.GetProgress().GetProgress(), event.GetProgress().GetTotal()})
		if err != nil {
			t.Fatal(err)
		}
		return "progress " + string(b)
	case event.GetNotice() != nil:
		return "notice " + event.GetNotice().GetLevel() + " " + string(event.GetNotice().GetData())
	case event.GetInputRequired() != nil:
		in := event.GetInputRequired()
		return "ask " + string(in.GetInputRequests()) + " needs " + string(in.GetRequiredCapabilities())
	}
	var parts []string
	if event.GetResult().GetIsError() {
		parts = append(parts, "error")
	}
	for _, c := range event.GetResult().GetContent() {
		parts = append(parts, describeContent(c))
	}
	return strings.Join(parts, " | ")
}

func describeContent(c *providerv1.Content) string {
	switch {
	case c.GetImage() != nil:
		return "image " + c.GetImage().GetMimeType() + " " + string(c.GetImage().GetData()[1:4])
	case c.GetAudio() != nil:
		return "audio " + c.GetAudio().GetMimeType() + " " + string(c.GetAudio().GetData()[8:12])
	case c.GetResource() != nil:
		return "resource " + c.GetResource().GetUri() + " " + c.GetResource().GetMimeType() + " " + c.GetResource().GetText()
	}
	return c.GetText()
}

func TestTools(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, tool, arguments string
		progress              bool
		level                 string
		want                  []string
	}{
		{name: "a text", tool: "test_simple_text", want: []string{"This is a simple text response for testing."}},
		{name: "an image", tool: "test_image_content", want: []string{"image image/png PNG"}},
		{name: "a sound", tool: "test_audio_content", want: []string{"audio audio/wav WAVE"}},
		{name: "a resource", tool: "test_embedded_resource", want: []string{"resource test://embedded-resource text/plain This is an embedded resource content."}},
		{
			name: "three kinds of content", tool: "test_multiple_content_types",
			want: []string{`Multiple content types test: | image image/png PNG | resource test://mixed-content-resource application/json {"test":"data","value":123}`},
		},
		{name: "an error", tool: "test_error_handling", want: []string{"error | This tool intentionally returns an error for testing"}},
		{
			name: "progress that is wanted", tool: "test_tool_with_progress", progress: true,
			want: []string{"progress [0,100]", "progress [50,100]", "progress [100,100]", "Tool with progress executed successfully"},
		},
		{name: "progress that is not wanted", tool: "test_tool_with_progress", want: []string{"Tool with progress executed successfully"}},
		{
			name: "log messages from debug on", tool: "test_tool_with_logging", level: "debug",
			want: []string{
				`notice info "Tool execution started"`, `notice info "Tool processing data"`, `notice info "Tool execution completed"`,
				"Tool with logging executed successfully",
			},
		},
		{name: "log messages from warning on, of which there are none", tool: "test_tool_with_logging", level: "warning", want: []string{"Tool with logging executed successfully"}},
		{name: "a log message that the request asks for", tool: "test_logging_tool", level: "info", want: []string{`notice info "The request asks for log messages"`, "Logging evaluated"}},
		{name: "no log message without asking", tool: "test_logging_tool", want: []string{"Logging evaluated"}},
		{
			name: "arguments by a wide schema come back", tool: "json_schema_2020_12_tool", arguments: `{ "email": "a@b.c" }`,
			want: []string{`JSON Schema 2020-12 tool called with: {"email":"a@b.c"}`},
		},
		{
			name: "arguments that headers repeat come back", tool: "test_x_mcp_header", arguments: `{"region":"eu","limit":3,"dry_run":true}`,
			want: []string{`region="eu" limit=3 dry_run=true`},
		},
	}
	c := client(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req := &providerv1.CallToolRequest{Name: tt.tool, WantsProgress: tt.progress, LogLevel: tt.level}
			if tt.arguments != "" {
				req.Arguments = []byte(tt.arguments)
			}
			got, _, err := call(t.Context(), t, c, req)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestToolThatIsNotThere(t *testing.T) {
	t.Parallel()
	_, _, err := call(t.Context(), t, client(t), &providerv1.CallToolRequest{Name: "test_dynamic_tool"})
	if status.Code(err) != codes.NotFound || !fault.Is(err, providerv1.Reason_REASON_UNKNOWN) {
		t.Errorf("got error %v, want REASON_UNKNOWN", err)
	}
}

func TestCallEndsWhenItIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client(t).CallTool(ctx, &providerv1.CallToolRequest{Name: "test_tool_with_progress", Arguments: []byte("{}"), WantsProgress: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil { // 0 of 100
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want the code Canceled", err)
	}
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	list, err := client(t).ListTools(t.Context(), &providerv1.ListToolsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := protovalidate.Validate(list); err != nil {
		t.Errorf("the list breaks its contract: %v", err)
	}
	want := map[string]bool{
		"test_simple_text": true, "test_image_content": true, "test_audio_content": true, "test_embedded_resource": true,
		"test_multiple_content_types": true, "test_error_handling": true, "test_tool_with_progress": true,
		"test_tool_with_logging": true, "test_logging_tool": true, "json_schema_2020_12_tool": true, "test_x_mcp_header": true,
		"test_sampling": true, "test_elicitation": true, "test_elicitation_sep1034_defaults": true,
		"test_elicitation_sep1330_enums": true, "test_missing_capability": true, "test_streaming_elicitation": true,
		"test_input_required_result_elicitation": true, "test_input_required_result_sampling": true,
		"test_input_required_result_list_roots": true, "test_input_required_result_request_state": true,
		"test_input_required_result_tampered_state": true, "test_input_required_result_multiple_inputs": true,
		"test_input_required_result_multi_round": true, "test_input_required_result_capabilities": true,
		"test_trigger_tool_change": true, "test_trigger_prompt_change": true, "test_trigger_resource_update": true,
	}
	got := make(map[string]bool)
	for _, d := range list.GetTools() {
		got[d.GetName()] = true
		var schema struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(d.GetInputSchema(), &schema); err != nil || schema.Type != "object" {
			t.Errorf("%s: the schema %s is not one of an object (%v)", d.GetName(), d.GetInputSchema(), err)
		}
		if d.GetDescription() == "" || d.GetOptions().GetRisk() != toolv1.Risk_RISK_READ {
			t.Errorf("%s: got description %q and risk %v", d.GetName(), d.GetDescription(), d.GetOptions().GetRisk())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}
}

// The suite looks for these words in the list that clients get.
func TestWideSchemaIsWhole(t *testing.T) {
	t.Parallel()
	list, err := client(t).ListTools(t.Context(), &providerv1.ListToolsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list.GetTools() {
		if d.GetName() != "json_schema_2020_12_tool" {
			continue
		}
		var schema map[string]any
		if err := json.Unmarshal(d.GetInputSchema(), &schema); err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"$schema", "$defs", "allOf", "if", "then", "else", "additionalProperties"} {
			if _, ok := schema[word]; !ok {
				t.Errorf("the schema has no %s", word)
			}
		}
		if !strings.Contains(string(d.GetInputSchema()), `"$anchor"`) {
			t.Error("the schema has no $anchor")
		}
	}
}

func TestRunEndsWatches(t *testing.T) {
	t.Parallel()
	p := conformance.New()
	c := providerv1.NewProviderServiceClient(rpctest.Serve(t, p.Register, rpctest.As("executor")))
	stream, err := c.Watch(t.Context(), &providerv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("Watch: got %v, want its end", err)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	c := client(t)
	stream, err := c.Watch(t.Context(), &providerv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	tool := func() bool {
		list, err := c.ListTools(t.Context(), &providerv1.ListToolsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list.GetTools() {
			if d.GetName() == "test_dynamic_tool" {
				got, _, err := call(t.Context(), t, c, &providerv1.CallToolRequest{Name: d.GetName()})
				if err != nil || len(got) != 1 {
					t.Errorf("call of a listed tool: got %v, %v", got, err)
				}
				return true
			}
		}
		return false
	}
	prompt := func() bool {
		_, err := c.GetPrompt(t.Context(), &providerv1.GetPromptRequest{Name: "test_dynamic_prompt"})
		if err != nil && !fault.Is(err, providerv1.Reason_REASON_UNKNOWN) {
			t.Fatal(err)
		}
		return err == nil
	}
	steps := []struct {
		name, trigger string
		want          *providerv1.WatchResponse
		tool, prompt  bool
	}{
		{name: "at first it says what there is", want: &providerv1.WatchResponse{HasTools: true, HasResources: true, HasPrompts: true, HasCompletion: true}},
		{name: "a tool comes", trigger: "test_trigger_tool_change", want: &providerv1.WatchResponse{ToolsChanged: true}, tool: true},
		{name: "a prompt comes", trigger: "test_trigger_prompt_change", want: &providerv1.WatchResponse{PromptsChanged: true}, tool: true, prompt: true},
		{name: "a resource changes", trigger: "test_trigger_resource_update", want: &providerv1.WatchResponse{UpdatedUris: []string{"test://watched-resource"}}, tool: true, prompt: true},
		{name: "the tool goes", trigger: "test_trigger_tool_change", want: &providerv1.WatchResponse{ToolsChanged: true}, prompt: true},
		{name: "the prompt goes", trigger: "test_trigger_prompt_change", want: &providerv1.WatchResponse{PromptsChanged: true}},
	}
	for _, s := range steps {
		if s.trigger != "" {
			if _, _, err := call(t.Context(), t, c, &providerv1.CallToolRequest{Name: s.trigger}); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if !proto.Equal(got, s.want) {
			t.Errorf("%s: got %v, want %v", s.name, got, s.want)
		}
		if tool() != s.tool || prompt() != s.prompt {
			t.Errorf("%s: the tool is listed: %t, want %t; the prompt: %t, want %t", s.name, tool(), s.tool, prompt(), s.prompt)
		}
	}
	before, err := c.ReadResource(t.Context(), &providerv1.ReadResourceRequest{Uri: "test://watched-resource"})
	if err != nil || before.GetContents()[0].GetText() != "Watched resource content after 1 changes" {
		t.Errorf("the watched resource: got %v, %v", before, err)
	}
}
