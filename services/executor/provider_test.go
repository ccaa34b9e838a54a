package executor_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// fake is a provider that has and does what it is told.
type fake struct {
	providerv1.UnimplementedProviderServiceServer

	mu        sync.Mutex
	tools     []*providerv1.ToolDefinition
	resources []*providerv1.Resource
	templates []*providerv1.ResourceTemplate
	prompts   []*providerv1.Prompt
	watchers  map[chan *providerv1.WatchResponse]bool
	has       *providerv1.WatchResponse // first message; by default what there is

	call     func(*providerv1.CallToolRequest, grpc.ServerStreamingServer[providerv1.CallToolResponse]) error
	read     func(context.Context, *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error)
	prompt   func(context.Context, *providerv1.GetPromptRequest) (*providerv1.GetPromptResponse, error)
	complete func(context.Context, *providerv1.CompleteRequest) (*providerv1.CompleteResponse, error)
	list     func(context.Context) // before tools are listed
}

func (f *fake) register(r grpc.ServiceRegistrar) { providerv1.RegisterProviderServiceServer(r, f) }

func (f *fake) ListTools(ctx context.Context, _ *providerv1.ListToolsRequest) (*providerv1.ListToolsResponse, error) {
	if f.list != nil {
		f.list(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return &providerv1.ListToolsResponse{Tools: f.tools}, nil
}

func (f *fake) ListResources(context.Context, *providerv1.ListResourcesRequest) (*providerv1.ListResourcesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &providerv1.ListResourcesResponse{Resources: f.resources, Templates: f.templates}, nil
}

func (f *fake) ListPrompts(context.Context, *providerv1.ListPromptsRequest) (*providerv1.ListPromptsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &providerv1.ListPromptsResponse{Prompts: f.prompts}, nil
}

func (f *fake) CallTool(req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
	return f.call(req, stream)
}

func (f *fake) ReadResource(ctx context.Context, req *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
	return f.read(ctx, req)
}

func (f *fake) GetPrompt(ctx context.Context, req *providerv1.GetPromptRequest) (*providerv1.GetPromptResponse, error) {
	return f.prompt(ctx, req)
}

func (f *fake) Complete(ctx context.Context, req *providerv1.CompleteRequest) (*providerv1.CompleteResponse, error) {
	return f.complete(ctx, req)
}

func (f *fake) Watch(_ *providerv1.WatchRequest, stream grpc.ServerStreamingServer[providerv1.WatchResponse]) error {
	news := make(chan *providerv1.WatchResponse, 16)
	f.mu.Lock()
	if f.watchers == nil {
		f.watchers = make(map[chan *providerv1.WatchResponse]bool)
	}
	f.watchers[news] = true
	first := f.has
	if first == nil {
		first = &providerv1.WatchResponse{
			HasTools: true, HasResources: len(f.resources)+len(f.templates) > 0, HasPrompts: len(f.prompts) > 0,
			HasCompletion: f.complete != nil,
		}
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, news)
	}()
	if err := stream.Send(first); err != nil {
		return err
	}
	for {
		select {
		case m := <-news:
			if err := stream.Send(m); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// change changes what there is and tells of it.
func (f *fake) change(tell *providerv1.WatchResponse, edit func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit()
	for w := range f.watchers {
		w <- tell
	}
}

// wire is a connection that can be cut and mended.
type wire struct {
	grpc.ClientConnInterface

	mu   sync.Mutex
	down bool
	live context.Context
	kill context.CancelFunc
}

func newWire(c grpc.ClientConnInterface) *wire {
	w := &wire{ClientConnInterface: c}
	w.live, w.kill = context.WithCancel(context.Background())
	return w
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	w.kill()
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
	w.live, w.kill = context.WithCancel(context.Background())
}

func (w *wire) state() (context.Context, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, status.Error(codes.Unavailable, "connection refused")
	}
	return w.live, nil
}

func (w *wire) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if _, err := w.state(); err != nil {
		return err
	}
	return w.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

func (w *wire) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	live, err := w.state()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(live, cancel)
	return w.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// provide announces a replica of a provider and waits until the tools are as
// wanted.
func (s *system) provide(service, instance string, f *fake, want ...string) *wire {
	s.t.Helper()
	address := service + ":" + instance
	s.serve(address, f.register)
	w := newWire(s.conns[address])
	s.connect(address, w)
	raw, err := proto.Marshal(&executorv1.Announcement{Service: service, Instance: instance, Address: address, Provider: true})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.bus.Put(s.t.Context(), bus.Tools, service+"."+instance, raw); err != nil {
		s.t.Fatal(err)
	}
	s.wait(want...)
	return w
}

// until waits for news until something holds.
func (s *system) until(holds func() bool) {
	s.t.Helper()
	for !holds() {
		if _, err := s.watch.Recv(); err != nil {
			s.t.Fatal(err)
		}
	}
}

const anyObject = `{"type":"object"}`

// definition is a harmless tool.
func definition(name string, edit ...func(*providerv1.ToolDefinition)) *providerv1.ToolDefinition {
	d := &providerv1.ToolDefinition{
		Name: name, Description: "A tool.", InputSchema: []byte(anyObject), Options: &toolv1.Tool{Risk: toolv1.Risk_RISK_READ},
	}
	for _, e := range edit {
		e(d)
	}
	return d
}

func textResult(text string) *providerv1.ToolResult {
	return &providerv1.ToolResult{Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: text}}}}
}

func resultEvent(r *providerv1.ToolResult) *providerv1.CallToolResponse {
	return &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Result{Result: r}}
}

func progressEvent(p float64) *providerv1.CallToolResponse {
	return &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Progress{Progress: &providerv1.Progress{Progress: p}}}
}

func noticeEvent(level, data string) *providerv1.CallToolResponse {
	return &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Notice{Notice: &providerv1.Notice{Level: level, Data: []byte(data)}}}
}

func questionEvent(q *providerv1.InputRequired) *providerv1.CallToolResponse {
	return &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_InputRequired{InputRequired: q}}
}

// plays answers each call with the same messages.
func plays(events ...*providerv1.CallToolResponse) func(*providerv1.CallToolRequest, grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
	return func(_ *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
		for _, e := range events {
			if err := stream.Send(e); err != nil {
				return err
			}
		}
		return nil
	}
}

// events makes a call and returns all its messages.
func (s *system) events(ctx context.Context, req *executorv1.CallRequest) ([]*executorv1.CallResponse, error) {
	stream, err := s.client.Call(ctx, req)
	if err != nil {
		return nil, err
	}
	var all []*executorv1.CallResponse
	for {
		resp, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return all, err
		}
		all = append(all, resp)
	}
}

// last returns the last message of a call.
func (s *system) last(t *testing.T, req *executorv1.CallRequest) *executorv1.CallResponse {
	t.Helper()
	all, err := s.events(t.Context(), req)
	if err != nil || len(all) == 0 {
		t.Fatalf("Call = %v, %v", all, err)
	}
	return all[len(all)-1]
}
