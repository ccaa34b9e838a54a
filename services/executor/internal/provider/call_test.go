package provider_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/jsonschema"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// script is a connection to a provider that sends messages, whatever it is asked.
type script struct {
	grpc.ClientConnInterface
	messages []proto.Message
}

func (s script) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &reading{ctx: ctx, left: s.messages}, nil
}

type reading struct {
	grpc.ClientStream
	ctx  context.Context
	left []proto.Message
}

func (r *reading) Context() context.Context { return r.ctx }
func (r *reading) SendMsg(any) error        { return nil }
func (r *reading) CloseSend() error         { return nil }

func (r *reading) RecvMsg(m any) error {
	if len(r.left) == 0 {
		return io.EOF
	}
	proto.Merge(m.(proto.Message), r.left[0])
	r.left = r.left[1:]
	return nil
}

// caller keeps what it is told.
type caller struct{ sent []*executorv1.CallResponse }

func (c *caller) Send(m *executorv1.CallResponse) error {
	c.sent = append(c.sent, m)
	return nil
}

func testTool(t testing.TB, output string) *provider.Tool {
	t.Helper()
	l := (&provider.Lists{Tools: &providerv1.ListToolsResponse{Tools: []*providerv1.ToolDefinition{
		{Name: "t", InputSchema: []byte(`{"type":"object"}`), OutputSchema: []byte(output)},
	}}}).Read("ev", joining.Config{}, checker(t))
	if len(l.Refused) > 0 {
		t.Fatal(l.Refused)
	}
	return l.Tools[0]
}

func invoke(t testing.TB, tl *provider.Tool, messages ...proto.Message) (tool.Answer, *caller, error) {
	t.Helper()
	c := &caller{}
	answer, err := tl.Invoke(t.Context(), script{messages: messages}, &providerv1.CallToolRequest{Name: "t"}, &tool.Call{
		Request: &executorv1.CallRequest{WantsProgress: true, LogLevel: "debug"}, Limit: 1 << 16, To: c,
	})
	return answer, c, err
}

// A question is passed on only if a client could be asked it.
func TestQuestions(t *testing.T) {
	t.Parallel()
	many := strings.Repeat(`,"k":{"method":"roots/list"}`, 33)
	for i := range 33 {
		many = strings.Replace(many, `"k"`, `"k`+strings.Repeat("x", i)+`"`, 1)
	}
	tests := []struct {
		name string
		q    *providerv1.InputRequired
		good bool
	}{
		{"all three methods", &providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"elicitation/create","params":{}},"b":{"method":"sampling/createMessage","params":{"x":[1]}},"c":{"method":"roots/list"}}`)}, true},
		{"an escaped method", &providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"roots\/list"}}`)}, true},
		{"only a state", &providerv1.InputRequired{State: []byte("x")}, true},
		{"a state and no requests", &providerv1.InputRequired{State: []byte("x"), InputRequests: []byte(`{}`)}, true},
		{"the largest state", &providerv1.InputRequired{State: make([]byte, provider.MaxState)}, true},
		{"capabilities", &providerv1.InputRequired{State: []byte("x"), RequiredCapabilities: []byte(`{"roots":{}}`)}, true},
		{"nothing", &providerv1.InputRequired{}, false},
		{"no requests", &providerv1.InputRequired{InputRequests: []byte(`{}`)}, false},
		{"a state that cannot be wrapped", &providerv1.InputRequired{State: make([]byte, provider.MaxState+1)}, false},
		{"another method", &providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"tools/call"}}`)}, false},
		{"a method that is no text", &providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":["roots/list"]}}`)}, false},
		{"no method", &providerv1.InputRequired{InputRequests: []byte(`{"a":{}}`)}, false},
		{"parameters that are no object", &providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"roots/list","params":1}}`)}, false},
		{"a request that is no object", &providerv1.InputRequired{InputRequests: []byte(`{"a":1}`)}, false},
		{"a key twice", &providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"roots/list"},"a":{"method":"roots/list"}}`)}, false},
		{"no key", &providerv1.InputRequired{InputRequests: []byte(`{"":{"method":"roots/list"}}`)}, false},
		{"too many", &providerv1.InputRequired{InputRequests: []byte("{" + many[1:] + "}")}, false},
		{"too large", &providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"roots/list","params":{"x":"` + strings.Repeat("x", 1<<16) + `"}}}`)}, false},
		{"not JSON", &providerv1.InputRequired{InputRequests: []byte(`{"a":`)}, false},
		{"two values", &providerv1.InputRequired{State: []byte("x"), InputRequests: []byte(`{}{}`)}, false},
		{"capabilities that are no object", &providerv1.InputRequired{State: []byte("x"), RequiredCapabilities: []byte(`[]`)}, false},
	}
	tl := testTool(t, "")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			answer, _, err := invoke(t, tl, &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_InputRequired{InputRequired: tt.q}})
			if tt.good && (err != nil || !proto.Equal(answer.Question, tt.q)) || !tt.good && !errors.Is(err, tool.ErrInvalid) {
				t.Errorf("Invoke = %v, %v", answer, err)
			}
		})
	}
}

// A call may end in any way, but never with what cannot be passed on.
func FuzzInvoke(f *testing.F) {
	add := func(m ...*providerv1.CallToolResponse) {
		var raw [2][]byte
		for i := range m {
			var err error
			if raw[i], err = proto.Marshal(m[i]); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(raw[0], raw[1])
	}
	result := &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Result{Result: &providerv1.ToolResult{
		Structured: []byte(`{"n":1}`), Meta: []byte(`{}`), Content: []*providerv1.Content{{Kind: &providerv1.Content_Other{Other: []byte(`{"type":"x"}`)}}},
	}}}
	add(&providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Progress{Progress: &providerv1.Progress{Progress: 1}}}, result)
	add(&providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Notice{Notice: &providerv1.Notice{Level: "info", Data: []byte(`1`)}}}, result)
	add(&providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_InputRequired{InputRequired: &providerv1.InputRequired{InputRequests: []byte(`{"a":{"method":"roots/list"}}`)}}})
	tl := testTool(f, `{"type":"object","properties":{"n":{"type":"integer"}}}`)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var messages []proto.Message
		for _, raw := range [][]byte{first, second} {
			m := &providerv1.CallToolResponse{}
			if proto.Unmarshal(raw, m) != nil {
				return
			}
			messages = append(messages, m)
		}
		answer, c, err := invoke(t, tl, messages...)
		if (err == nil) == (answer.Result == nil && answer.Question == nil) {
			t.Fatalf("Invoke = %v, %v", answer, err)
		}
		if s := answer.Result.GetStructured(); len(s) > 0 && jsonschema.Valid(s) != nil {
			t.Errorf("structured result %q", s)
		}
		if q := answer.Question.GetInputRequests(); len(q) > 0 && jsonschema.Object(q) != nil {
			t.Errorf("question %q", q)
		}
		for _, m := range c.sent {
			if m.GetProgress() == nil && jsonschema.Valid(m.GetNotice().GetData()) != nil {
				t.Errorf("passed on: %v", m)
			}
		}
	})
}

// What a call may send has an end, in messages and in bytes.
func TestEndlessCalls(t *testing.T) {
	t.Parallel()
	const limit = 1 << 16 // of invoke
	progress := func(size int) proto.Message {
		return &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Progress{Progress: &providerv1.Progress{Message: strings.Repeat("x", size)}}}
	}
	notice := func(size int) proto.Message {
		return &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Notice{Notice: &providerv1.Notice{
			Level: "info", Data: []byte(`"` + strings.Repeat("x", size) + `"`),
		}}}
	}
	result := &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Result{Result: &providerv1.ToolResult{Structured: []byte(`{}`)}}}
	tests := []struct {
		name    string
		message proto.Message
		times   int
		endless bool
	}{
		{"as many messages as there may be", progress(1), tool.MaxMessages - 1, false},
		{"one more", progress(1), tool.MaxMessages, true},
		{"as many bytes as there may be", notice(limit / 8), 100, false},
		{"more", notice(limit / 8), 16 * 8, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := invoke(t, testTool(t, ""), append(slices.Repeat([]proto.Message{tt.message}, tt.times), result)...)
			if errors.Is(err, tool.ErrEndless) != tt.endless || !tt.endless && err != nil {
				t.Errorf("Invoke = %v", err)
			}
		})
	}
}

// A provider that never stops telling news is read slowly.
func TestWatchIsReadSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		from := &gossip{ctx: ctx}
		var reading sync.WaitGroup
		if _, err := provider.Watch(ctx, from, checker(t), reading.Go); err != nil {
			t.Fatal(err)
		}
		reading.Wait()
		if from.told < 1000 || from.told > 2000 {
			t.Errorf("%d messages were read in a minute, want about 20 a second", from.told)
		}
	})
}

// gossip is a connection to a provider that always has news.
type gossip struct {
	grpc.ClientConnInterface
	grpc.ClientStream
	ctx  context.Context
	told int
}

func (g *gossip) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return g, nil
}
func (g *gossip) Context() context.Context { return g.ctx }
func (g *gossip) SendMsg(any) error        { return nil }
func (g *gossip) CloseSend() error         { return nil }

func (g *gossip) RecvMsg(m any) error {
	if g.told++; g.told > 10_000 {
		return io.EOF
	}
	m.(*providerv1.WatchResponse).ToolsChanged = true
	return g.ctx.Err()
}
