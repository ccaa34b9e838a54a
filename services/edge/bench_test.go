package edge_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// The stubs cost nothing, so that what is measured is the edge.
type stubAuth struct {
	authv1.AuthServiceClient
	authorize *authv1.AuthorizeResponse
}

func (s stubAuth) Authenticate(context.Context, *authv1.AuthenticateRequest, ...grpc.CallOption) (*authv1.AuthenticateResponse, error) {
	return &authv1.AuthenticateResponse{Principal: s.authorize.GetPrincipal(), ValidFor: durationpb.New(time.Minute)}, nil
}

func (s stubAuth) Authorize(context.Context, *authv1.AuthorizeRequest, ...grpc.CallOption) (*authv1.AuthorizeResponse, error) {
	return s.authorize, nil
}

type stubQuota struct {
	quotav1.QuotaServiceClient
	check *quotav1.CheckResponse
}

func (s stubQuota) Check(context.Context, *quotav1.CheckRequest, ...grpc.CallOption) (*quotav1.CheckResponse, error) {
	return s.check, nil
}

func (stubQuota) CheckStream(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse], error) {
	return nil, errDown
}

type stubExecutor struct {
	executorv1.ExecutorServiceClient
	result *executorv1.CallResponse
}

func (s stubExecutor) ListTools(context.Context, *executorv1.ListToolsRequest, ...grpc.CallOption) (*executorv1.ListToolsResponse, error) {
	return &executorv1.ListToolsResponse{Version: "v1"}, nil
}

func (s stubExecutor) Call(context.Context, *executorv1.CallRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.CallResponse], error) {
	return &stubStream{result: s.result}, nil
}

func (s stubExecutor) Watch(ctx context.Context, _ *executorv1.WatchRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.WatchResponse], error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type stubStream struct {
	grpc.ServerStreamingClient[executorv1.CallResponse]
	result *executorv1.CallResponse
}

func (s *stubStream) Recv() (*executorv1.CallResponse, error) {
	if s.result == nil {
		return nil, io.EOF
	}
	r := s.result
	s.result = nil
	return r, nil
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// benchOptions is an edge with stubs for peers.
func benchOptions(cfg edge.Config) edge.Options {
	return edge.Options{
		Config: cfg, Audit: &fakeAudit{}, Notices: &fakeNotices{}, Version: "1.2.3",
		Auth: stubAuth{authorize: &authv1.AuthorizeResponse{
			Decision:  &authv1.Decision{Id: "d_01K00000000000000000000000", Verdict: auditv1.Verdict_VERDICT_ALLOW},
			Principal: anna(), Grant: make([]byte, 300), Cost: 1,
		}},
		Quota: stubQuota{check: &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{
			{Name: "key-calls", Limit: 100, Remaining: 99, Window: durationpb.New(time.Minute)},
			{Name: "steps", Limit: 50, Remaining: 49, Window: durationpb.New(time.Hour)},
		}}},
		Executor: stubExecutor{result: &executorv1.CallResponse{Event: &executorv1.CallResponse_Result{Result: &executorv1.Result{
			Result: &providerv1.ToolResult{
				Content:    []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: `{"rows":[[1,"Anna"],[2,"Bert"]]}`}}},
				Structured: []byte(`{"rows":[[1,"Anna"],[2,"Bert"]]}`),
			},
		}}}},
	}
}

// slowExecutor tells when it was called, and waits.
type slowExecutor struct {
	executorv1.ExecutorServiceClient
	begun, release chan struct{}
}

func (s slowExecutor) Call(ctx context.Context, req *executorv1.CallRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.CallResponse], error) {
	close(s.begun)
	<-s.release
	return s.ExecutorServiceClient.Call(ctx, req, opts...)
}

func benchEdge(b testing.TB) *edge.Service {
	b.Helper()
	cfg := edge.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	s, err := edge.New(benchOptions(cfg))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// BenchmarkCall is one tools/call through the edge alone: no sockets, and peers
// that answer at once.
func BenchmarkCall(b *testing.B) {
	s := benchEdge(b)
	q := request{params: `"name":"run_sql_query","arguments":{"query":"SELECT id, name FROM customers WHERE city = ? LIMIT 10","parameters":["Berlin"]}`}
	template := q.http(b, "http://127.0.0.1:8080")
	body, err := io.ReadAll(template.Body)
	if err != nil {
		b.Fatal(err)
	}
	template.RemoteAddr = "127.0.0.1:4711"
	template.Host = "127.0.0.1:8080"
	first := httptest.NewRecorder()
	template.Body = io.NopCloser(bytes.NewReader(body))
	s.ServeHTTP(first, template)
	if first.Code != http.StatusOK || !bytes.Contains(first.Body.Bytes(), []byte("Anna")) {
		b.Fatalf("got %d %s", first.Code, first.Body)
	}
	w, reader := &discard{header: make(http.Header)}, bytes.NewReader(nil)
	template.Body = io.NopCloser(reader)
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		reader.Reset(body)
		s.ServeHTTP(w, template)
	}
}

// BenchmarkHTTP is the same over loopback TCP, with net/http on both sides.
func BenchmarkHTTP(b *testing.B) {
	s := benchEdge(b)
	server := httptest.NewServer(s)
	b.Cleanup(server.Close)
	q := request{params: `"name":"echo","arguments":{"text":"hi"}`}
	b.ReportAllocs()
	for b.Loop() {
		if a := do(b, q.http(b, server.URL)); a.status != http.StatusOK {
			b.Fatalf("got %d %s", a.status, a.body)
		}
	}
}
