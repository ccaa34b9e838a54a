package edge_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// The part of the world that talks before it answers: tools that report
// progress, write notices, or ask the client.

type talkStream = grpc.ServerStreamingServer[executorv1.CallResponse]

type talk func(*fakeExecutor, *executorv1.CallRequest, talkStream) error

// talking returns what a tool does that talks, or nil.
func talking(req *executorv1.CallRequest) talk {
	if req.GetTool() == "echo" && bytes.Contains(req.GetArguments(), []byte(`"ask"`)) {
		return asks(askName())
	}
	return talkers()[req.GetTool()]
}

func talkingTools() []string { return slices.Sorted(maps.Keys(talkers())) }

func talkers() map[string]talk {
	all := map[string]talk{
		"asks_name":    asks(askName()),
		"approve_asks": asks(askName()),
		"asks_everything": asks(&providerv1.InputRequired{InputRequests: []byte(`{` +
			`"form":{"method":"elicitation/create","params":{"message":"?","requestedSchema":{}}},` +
			`"url":{"method":"elicitation/create","params":{"mode":"url","url":"https://example.com/"}},` +
			`"model":{"method":"sampling/createMessage","params":{"messages":[],"maxTokens":9,"tools":[]}},` +
			`"roots":{"method":"roots/list"}}`), State: []byte("s1")}),
		"asks_sly_url": asks(&providerv1.InputRequired{InputRequests: []byte(
			`{"u":{"method":"elicitation\u002fcreate","params":{"mode":"\u0075rl","url":"https://example.com/"}}}`)}),
		"asks_state_only":     asks(&providerv1.InputRequired{State: []byte("s1")}),
		"asks_sampling":       asks(&providerv1.InputRequired{RequiredCapabilities: []byte(`{"sampling":{"tools":{}},"x.y/z":{}}`)}),
		"asks_wrong_method":   asks(&providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"tools/call","params":{}}}`)}),
		"asks_wrong_mode":     asks(&providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"elicitation/create","params":{"mode":"popup"}}}`)}),
		"asks_without_params": asks(&providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"elicitation/create"}}`)}),
		"asks_twice":          asks(&providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"roots/list"},"a":{"method":"roots/list"}}`)}),
		"asks_too_often":      asks(&providerv1.InputRequired{InputRequests: many(33)}),
		"asks_no_json":        asks(&providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"roots/list"}}}`)}),
		"asks_too_much":       asks(&providerv1.InputRequired{State: bytes.Repeat([]byte("s"), 60<<10)}),
		"tells":               tells,
		"floods":              floods,
	}
	for name, after := range map[string]talk{
		"refused": func(_ *fakeExecutor, _ *executorv1.CallRequest, s talkStream) error {
			return send(s, &executorv1.Result{Refusal: &executorv1.Refusal{Reason: auditv1.Reason_REASON_TOOL_TIMEOUT, Message: "The tool was slow"}})
		},
		"down": func(*fakeExecutor, *executorv1.CallRequest, talkStream) error {
			return fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY, "starting at 10.0.0.4")
		},
		"gone": func(*fakeExecutor, *executorv1.CallRequest, talkStream) error {
			return fault.New(codes.NotFound, executorv1.Reason_REASON_UNKNOWN, "no such tool")
		},
		"broken":   func(*fakeExecutor, *executorv1.CallRequest, talkStream) error { return errors.New("secret") },
		"asks":     asks(askName()),
		"sampling": asks(&providerv1.InputRequired{RequiredCapabilities: []byte(`{"sampling":{}}`)}),
	} {
		all["chatty_then_"+name] = func(e *fakeExecutor, req *executorv1.CallRequest, s talkStream) error {
			if err := progress(s, 1, ""); err != nil {
				return err
			}
			return after(e, req, s)
		}
	}
	return all
}

func many(n int) []byte {
	var all []string
	for i := range n {
		all = append(all, `"`+strings.Repeat("k", i+1)+`":{"method":"roots/list"}`)
	}
	return []byte("{" + strings.Join(all, ",") + "}")
}

func send(s talkStream, r *executorv1.Result) error {
	return s.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_Result{Result: r}})
}

func sendText(s talkStream, text string) error {
	return send(s, &executorv1.Result{Result: &providerv1.ToolResult{
		Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: text}}},
	}})
}

func progress(s talkStream, n float64, message string) error {
	return s.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_Progress{
		Progress: &providerv1.Progress{Progress: n, Message: message},
	}})
}

// asks asks until the state comes back, and then tells what it was told.
func asks(in *providerv1.InputRequired) talk {
	return func(_ *fakeExecutor, req *executorv1.CallRequest, s talkStream) error {
		round := req.GetRound()
		if string(round.GetState()) == "s1" {
			return sendText(s, "answers "+string(round.GetInputResponses())+" of "+string(round.GetClientCapabilities()))
		}
		return s.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_InputRequired{InputRequired: in}})
	}
}

// tells writes notices of all sorts, and tells from which level on it was asked.
func tells(_ *fakeExecutor, req *executorv1.CallRequest, s talkStream) error {
	for _, n := range []*providerv1.Notice{
		{Level: "debug", Data: []byte(`"too much"`)},
		{Level: "info", Logger: "tool\n1", Data: []byte("{\"line\":\n1}")},
		{Level: "loud", Data: []byte(`"no level"`)},
		{Level: "error", Data: []byte(`"broken`)},
		{Level: "error", Data: []byte(`"bad"`)},
	} {
		if err := s.Send(&executorv1.CallResponse{Event: &executorv1.CallResponse_Notice{Notice: n}}); err != nil {
			return err
		}
	}
	return sendText(s, "level "+req.GetLogLevel())
}

// floods reports progress until somebody stops it.
func floods(e *fakeExecutor, _ *executorv1.CallRequest, s talkStream) error {
	message := strings.Repeat("x", 1000)
	for i := 0; ; i++ {
		if err := progress(s, float64(i), message); err != nil {
			e.ended <- err
			return err
		}
	}
}

// richResult has one of everything.
func richResult() *providerv1.ToolResult {
	return &providerv1.ToolResult{Content: []*providerv1.Content{
		{
			Kind:        &providerv1.Content_Text{Text: "line\n\"quoted\" \u2028 é"},
			Annotations: &providerv1.Annotations{Audience: []string{"user", "assistant"}, Priority: proto.Float64(0.5), LastModified: "2026-01-01T00:00:00Z"},
		},
		{Kind: &providerv1.Content_Image{Image: &providerv1.Media{Data: []byte("png"), MimeType: "image/png"}}},
		{Kind: &providerv1.Content_Audio{Audio: &providerv1.Media{Data: []byte("wav"), MimeType: "audio/wav"}}},
		{
			Kind: &providerv1.Content_Resource{Resource: &providerv1.ResourceContents{
				Uri: "test://a", MimeType: "text/plain", Body: &providerv1.ResourceContents_Text{Text: "hello"},
			}},
			Meta: []byte(`{"a":1}`),
		},
		{Kind: &providerv1.Content_Resource{Resource: &providerv1.ResourceContents{Uri: "test://b", Body: &providerv1.ResourceContents_Blob{Blob: []byte("blob")}}}},
		{Kind: &providerv1.Content_ResourceLink{ResourceLink: &providerv1.ResourceLink{Uri: "test://c", Name: "c", Description: "see", Size: 7}}},
		{Kind: &providerv1.Content_Other{Other: []byte(`{"type":"new","x":1}`)}},
	}}
}
