package executor_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
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
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
)

// What a provider answers is passed on whole, and it is told all that it may
// know of the call.
func TestProviderCall(t *testing.T) {
	t.Parallel()
	s := start(t)
	asked := make(chan *providerv1.CallToolRequest, 1)
	result := &providerv1.ToolResult{
		Content: []*providerv1.Content{
			{Kind: &providerv1.Content_Text{Text: "hé"}, Annotations: &providerv1.Annotations{Audience: []string{"user"}}},
			{Kind: &providerv1.Content_Image{Image: &providerv1.Media{Data: []byte{0, 1}, MimeType: "image/png"}}},
			{Kind: &providerv1.Content_Resource{Resource: &providerv1.ResourceContents{Uri: "x://a", Body: &providerv1.ResourceContents_Text{Text: "b"}}}},
			{Kind: &providerv1.Content_ResourceLink{ResourceLink: &providerv1.ResourceLink{Uri: "x://a", Name: "a"}}},
			{Kind: &providerv1.Content_Other{Other: []byte(`{"type":"smell","of":[1]}`)}, Meta: []byte(`{"a":1}`)},
		},
		Structured: []byte(`{"n":1}`), Meta: []byte(`{"b":2}`),
	}
	s.provide("ev", "1", &fake{
		tools: []*providerv1.ToolDefinition{definition("mix", func(d *providerv1.ToolDefinition) { d.OutputSchema = []byte(`{"required":["n"]}`) })},
		call: func(req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
			asked <- req
			return stream.Send(resultEvent(result))
		},
	}, "mix")
	req := granted(t, "mix", `{"a":[1,"x"]}`)
	req.WantsProgress, req.LogLevel, req.IdempotencyKey = true, "info", "k1"
	req.Round = &providerv1.Round{ClientCapabilities: []byte(`{"roots":{}}`)}
	got := s.last(t, req)
	want := &executorv1.CallResponse{Event: &executorv1.CallResponse_Result{Result: &executorv1.Result{Result: result}}}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(&executorv1.Result{}, "provenance")); diff != "" {
		t.Errorf("Call (-want +got):\n%s", diff)
	}
	wantRequest := &providerv1.CallToolRequest{
		Name: "mix", Arguments: []byte(`{"a":[1,"x"]}`), IdempotencyKey: "k1", WantsProgress: true, LogLevel: "info",
		Principal: &authv1.Principal{Id: "key:7Xk2", CredentialId: "7Xk2", Tenant: "acme", Roles: []string{"admin"}},
		Round:     &providerv1.Round{ClientCapabilities: []byte(`{"roots":{}}`)},
	}
	if diff := cmp.Diff(wantRequest, <-asked, protocmp.Transform()); diff != "" {
		t.Errorf("the provider is asked (-want +got):\n%s", diff)
	}
	events := s.audit.take()
	if diff := cmp.Diff([]string{"intent", "outcome OK UNSPECIFIED"}, kinds(events)); diff != "" {
		t.Fatalf("events (-want +got):\n%s", diff)
	}
	if o := events[1].GetOutcome(); events[0].GetIntent().GetService() != "ev" || o.GetResultBytes() == 0 || len(o.GetResultSha256()) != sha256.Size {
		t.Errorf("events = %v", events)
	}
	// An attempt that the client did not name is named by its decision.
	s.last(t, granted(t, "mix", `{}`))
	if key := (<-asked).GetIdempotencyKey(); key != "d_01JDKZ5R9GQ0V4T4M5N6P7Q8R9" {
		t.Errorf("idempotency key = %q", key)
	}
}

// Each way in which a provider can end a call has its answer and its record.
func TestProviderCallEndings(t *testing.T) {
	t.Parallel()
	const schema = `{"type":"object","properties":{"n":{"type":"integer","minimum":1}},"additionalProperties":false}`
	const broken = "t was called, but its result is not what it promises and is not passed on. Trying again will not help."
	failing := &providerv1.ToolResult{IsError: true, Content: textResult("no").Content, Structured: []byte(`"anything"`)}
	fails := func(err error) func(*providerv1.CallToolRequest, grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
		return func(*providerv1.CallToolRequest, grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
			return err
		}
	}
	good := &providerv1.ToolResult{Structured: []byte(`{"n":1}`)}
	tests := []struct {
		name       string
		arguments  string
		call       func(*providerv1.CallToolRequest, grpc.ServerStreamingServer[providerv1.CallToolResponse]) error
		risk       toolv1.Risk
		timeout    time.Duration
		wantReason auditv1.Reason
		wantText   string
		wantResult *providerv1.ToolResult
		wantEvent  string
	}{
		{
			name: "arguments that break the schema are not sent", arguments: `{"n":0,"x":1}`, wantReason: auditv1.Reason_REASON_INVALID_ARGUMENTS,
			wantText:  "The arguments of t are not right, so it was not called: /n must be at least 1; /x is not known; known are: n. Correct them and call again.",
			wantEvent: "outcome FAILED INVALID_ARGUMENTS",
		},
		{
			name: "arguments that say a name twice are not sent", arguments: `{"n":1,"n":2}`, wantReason: auditv1.Reason_REASON_INVALID_ARGUMENTS,
			wantText:  "The arguments of t are not right, so it was not called: /n is given twice. Correct them and call again.",
			wantEvent: "outcome FAILED INVALID_ARGUMENTS",
		},
		{name: "an error of the tool itself is passed on whole", call: plays(resultEvent(failing)), wantResult: failing, wantEvent: "outcome FAILED TOOL_ERROR"},
		{name: "no message", call: plays(), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "two results", call: plays(resultEvent(good), resultEvent(good)), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "progress after the result", call: plays(resultEvent(good), progressEvent(1)), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{
			name: "an error after the result",
			call: func(req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
				return errors.Join(stream.Send(resultEvent(good)), fault.New(codes.NotFound, providerv1.Reason_REASON_UNKNOWN, "no"))
			},
			wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID",
		},
		{name: "an empty message", call: plays(&providerv1.CallToolResponse{}), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "no structured result", call: plays(resultEvent(textResult("x"))), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "a structured result that breaks the schema", call: plays(resultEvent(&providerv1.ToolResult{Structured: []byte(`{"n":"1"}`)})), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "a structured result that is not JSON", call: plays(resultEvent(&providerv1.ToolResult{Structured: []byte(`{"n":1},"x":{}`)})), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "a block that is not JSON", call: plays(resultEvent(&providerv1.ToolResult{Structured: good.Structured, Content: []*providerv1.Content{{Kind: &providerv1.Content_Other{Other: []byte(`{}}`)}}}})), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "a block without a type", call: plays(resultEvent(&providerv1.ToolResult{Structured: good.Structured, Content: []*providerv1.Content{{Kind: &providerv1.Content_Other{Other: []byte(`{}`)}}}})), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "_meta that is no object", call: plays(resultEvent(&providerv1.ToolResult{Structured: good.Structured, Meta: []byte(`[]`)})), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "a notice that is not JSON", call: plays(noticeEvent("error", "x")), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "a notice of no level", call: plays(noticeEvent("loud", "1")), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{name: "a question without anything", call: plays(questionEvent(&providerv1.InputRequired{})), wantReason: auditv1.Reason_REASON_RESULT_INVALID, wantText: broken, wantEvent: "outcome FAILED RESULT_INVALID"},
		{
			name: "a result that is too large", call: plays(resultEvent(textResult(strings.Repeat("x", 5000)))), wantReason: auditv1.Reason_REASON_RESULT_TOO_LARGE,
			wantText: "t was called, but its result is larger than 4096 bytes and is not passed on. Ask for less.", wantEvent: "outcome FAILED RESULT_TOO_LARGE",
		},
		{
			name: "a message that is far too large", call: plays(resultEvent(textResult(strings.Repeat("x", 1<<20)))), wantReason: auditv1.Reason_REASON_RESULT_TOO_LARGE,
			wantText: "t was called, but its result is larger than 4096 bytes and is not passed on. Ask for less.", wantEvent: "outcome FAILED RESULT_TOO_LARGE",
		},
		{
			name: "arguments that only the provider knows to be wrong", call: fails(fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS, "n is odd")),
			wantReason: auditv1.Reason_REASON_INVALID_ARGUMENTS, wantText: "t: n is odd", wantEvent: "outcome FAILED INVALID_ARGUMENTS",
		},
		{
			name: "what is behind it is gone", call: fails(fault.New(codes.Unavailable, providerv1.Reason_REASON_UPSTREAM, "gone")), wantReason: auditv1.Reason_REASON_TOOL_UNAVAILABLE,
			wantText: "The service of t cannot be reached just now. Try again in a few seconds.", wantEvent: "outcome FAILED TOOL_UNAVAILABLE",
		},
		{
			name: "what is behind it is gone, and may have done it", call: fails(fault.New(codes.Unavailable, providerv1.Reason_REASON_UPSTREAM, "gone")), risk: toolv1.Risk_RISK_WRITE,
			wantReason: auditv1.Reason_REASON_TOOL_UNAVAILABLE, wantText: "t was called and did not answer. It may or may not have done it: find out before you call it again.",
			wantEvent: "outcome UNKNOWN TOOL_UNAVAILABLE",
		},
		{
			name: "what is behind it was not called", call: fails(fault.New(codes.Unavailable, providerv1.Reason_REASON_UPSTREAM, "gone").After(time.Second)), risk: toolv1.Risk_RISK_WRITE,
			wantReason: auditv1.Reason_REASON_TOOL_UNAVAILABLE, wantText: "The service of t cannot be reached just now. Try again in a few seconds.", wantEvent: "outcome FAILED TOOL_UNAVAILABLE",
		},
		{
			name: "an error that was not written for callers", call: fails(errors.New("dial 10.0.0.7")), wantReason: auditv1.Reason_REASON_TOOL_ERROR,
			wantText: "t: the tool failed.", wantEvent: "outcome FAILED TOOL_ERROR",
		},
		{
			name: "progress does not extend the deadline", timeout: 50 * time.Millisecond,
			call: func(_ *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
				for i := range 1000 { // a call has room for ten times as many
					if err := stream.Send(progressEvent(float64(i))); err != nil {
						return err
					}
				}
				<-stream.Context().Done()
				return stream.Context().Err()
			},
			wantReason: auditv1.Reason_REASON_TOOL_TIMEOUT, wantText: "t did not answer in time.", wantEvent: "outcome FAILED TOOL_TIMEOUT",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *executor.Config) { c.MaxResultBytes = 4096 })
			if tt.call == nil {
				tt.call = func(*providerv1.CallToolRequest, grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
					t.Error("the tool was called")
					return nil
				}
			}
			s.provide("ev", "1", &fake{call: tt.call, tools: []*providerv1.ToolDefinition{definition("t", func(d *providerv1.ToolDefinition) {
				d.InputSchema, d.OutputSchema, d.Options.Idempotent = []byte(schema), []byte(schema), tt.risk == 0
				if tt.risk != 0 {
					d.Options.Risk = tt.risk
				}
				if tt.timeout > 0 {
					d.Options.Timeout = durationpb.New(tt.timeout)
				}
			})}}, "t")
			if tt.arguments == "" {
				tt.arguments = `{"n":1}`
			}
			req := granted(t, "t", tt.arguments)
			req.LogLevel, req.WantsProgress = "debug", true
			got := s.last(t, req).GetResult()
			if r := got.GetRefusal(); r.GetReason() != tt.wantReason || r.GetMessage() != tt.wantText {
				t.Errorf("Call refuses with %v %q, want %v %q", r.GetReason(), r.GetMessage(), tt.wantReason, tt.wantText)
			}
			if tt.wantResult == nil {
				tt.wantResult = &providerv1.ToolResult{IsError: true}
			}
			if diff := cmp.Diff(tt.wantResult, got.GetResult(), protocmp.Transform()); diff != "" {
				t.Errorf("Call (-want +got):\n%s", diff)
			}
			if events := kinds(s.audit.take()); len(events) == 0 || events[len(events)-1] != tt.wantEvent {
				t.Errorf("events = %q, want %q at the end", events, tt.wantEvent)
			}
		})
	}
}

// What happens before the result is passed on as far as it is wanted.
func TestProviderEvents(t *testing.T) {
	t.Parallel()
	script := []*providerv1.CallToolResponse{
		progressEvent(1), progressEvent(1), noticeEvent("debug", `"d"`), noticeEvent("warning", `{"w":1}`), progressEvent(0.5), progressEvent(2), noticeEvent("error", `1`),
		resultEvent(textResult("done")),
	}
	tests := []struct {
		name     string
		progress bool
		level    string
		want     []string
	}{
		{"all", true, "debug", []string{"progress 1", `debug "d"`, `warning {"w":1}`, "progress 2", "error 1", "result"}},
		{"only progress", true, "", []string{"progress 1", "progress 2", "result"}},
		{"only what is grave", false, "error", []string{"error 1", "result"}},
		{"a level that is none", false, "loud", []string{"result"}},
		{"nothing", false, "", []string{"result"}},
	}
	s := start(t)
	s.provide("ev", "1", &fake{tools: []*providerv1.ToolDefinition{definition("t")}, call: plays(script...)}, "t")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := granted(t, "t", `{}`)
			req.WantsProgress, req.LogLevel = tt.progress, tt.level
			all, err := s.events(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range all {
				switch {
				case e.GetProgress() != nil:
					got = append(got, fmt.Sprintf("progress %v", e.GetProgress().GetProgress()))
				case e.GetNotice() != nil:
					got = append(got, e.GetNotice().GetLevel()+" "+string(e.GetNotice().GetData()))
				default:
					got = append(got, "result")
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// A provider that floods its caller is heard now and then, and its result all
// the same.
func TestProviderFloods(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.provide("ev", "1", &fake{
		tools: []*providerv1.ToolDefinition{definition("t")},
		call: func(_ *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
			for i := range 3000 {
				if err := stream.Send(progressEvent(float64(i))); err != nil {
					return err
				}
			}
			return stream.Send(resultEvent(textResult("done")))
		},
	}, "t")
	req := granted(t, "t", `{}`)
	req.WantsProgress = true
	all, err := s.events(t.Context(), req)
	if err != nil || all[len(all)-1].GetResult().GetRefusal() != nil {
		t.Fatalf("Call: %v", err)
	}
	if n := len(all); n < 100 || n > 1000 {
		t.Errorf("%d messages are passed on", n)
	}
}

// Whoever goes away takes the call with him, through to the provider.
func TestProviderCallIsCancelled(t *testing.T) {
	t.Parallel()
	s := start(t)
	called, ended := make(chan struct{}), make(chan error, 1)
	s.provide("ev", "1", &fake{
		tools: []*providerv1.ToolDefinition{definition("t")},
		call: func(_ *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
			close(called)
			<-stream.Context().Done()
			ended <- stream.Context().Err()
			return stream.Context().Err()
		},
	}, "t")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-called
		cancel()
	}()
	if _, err := s.events(ctx, granted(t, "t", `{}`)); status.Code(err) != codes.Canceled {
		t.Errorf("Call: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the provider's context: %v", err)
	}
}
