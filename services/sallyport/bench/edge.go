package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	profiling "net/http/pprof"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/audit"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/telemetry"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// benchKey is the credential that the edge alone is called with: as long as one
// that auth makes, and good for nothing.
const benchKey = "sp_bench_not-a-key-but-as-long-as-one-000000000000"

// edgeAlone is the edge with its defaults, its metrics, its tracer and its
// collector's pace, as in production, and peers that answer at once: what is
// measured is HTTP, the checks, and the answer.
func edgeAlone(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	app.CollectLess()
	log := slog.New(slog.DiscardHandler)
	observed, err := telemetry.Start(ctx, "bench", "bench", log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, observed.Shutdown(context.WithoutCancel(ctx))) }()
	cfg := edge.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	service, err := edge.New(edge.Options{
		Config: cfg, Auth: newStubAuth(), Quota: newStubQuota(), Executor: newStubExecutor(), Audit: forgetful{}, Notices: quiet{},
		Version: "bench", Log: log, Tracer: observed.Tracer("edge"), Meter: observed.Meter("edge"),
	})
	if err != nil {
		return err
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, service.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", memory) // the page of all metrics would cost as much as a hundred calls
	mux.HandleFunc("GET /debug/pprof/profile", profiling.Profile)
	mux.Handle("GET /debug/pprof/allocs", profiling.Handler("allocs"))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 2)
	go func() { served <- service.Run(ctx) }()
	go func() {
		if err := srv.Serve(admin); !errors.Is(err, http.ErrServerClosed) {
			served <- err
			return
		}
		served <- nil
	}()
	go func() { // ends with the process at the latest
		_, _ = io.Copy(io.Discard, in) // however it ends, it has ended
		stop()
		_ = srv.Close() // what is in flight is of no use
	}()
	err = json.NewEncoder(out).Encode(addresses{MCP: service.Addr(), Admin: admin.Addr().String()})
	if err != nil {
		stop()
		err = errors.Join(err, srv.Close())
	}
	return errors.Join(err, <-served, <-served)
}

// The peers have their answers ready, so that they cost nothing themselves.

type stubAuth struct {
	authv1.AuthServiceClient
	authenticate *authv1.AuthenticateResponse
	authorize    *authv1.AuthorizeResponse
}

func newStubAuth() stubAuth {
	p := &authv1.Principal{
		Id: "key:bench", Owner: "bench", Name: "Bench", CredentialId: "0123456789", Tenant: "default", Roles: []string{"analyst"},
	}
	return stubAuth{
		authenticate: &authv1.AuthenticateResponse{Principal: p, ValidFor: durationpb.New(time.Minute)},
		authorize: &authv1.AuthorizeResponse{
			Decision:  &authv1.Decision{Id: audit.NewDecisionID(), Verdict: auditv1.Verdict_VERDICT_ALLOW},
			Principal: p, Grant: make([]byte, 300), Cost: 1,
		},
	}
}

func (s stubAuth) Authenticate(context.Context, *authv1.AuthenticateRequest, ...grpc.CallOption) (*authv1.AuthenticateResponse, error) {
	return s.authenticate, nil
}

func (s stubAuth) Authorize(context.Context, *authv1.AuthorizeRequest, ...grpc.CallOption) (*authv1.AuthorizeResponse, error) {
	return s.authorize, nil
}

type stubQuota struct {
	quotav1.QuotaServiceClient
	check *quotav1.CheckResponse
}

func newStubQuota() stubQuota {
	return stubQuota{check: &quotav1.CheckResponse{Allowed: true, Limits: []*quotav1.LimitState{
		{Name: "per-ip-calls", Limit: 1000, Remaining: 999, Window: durationpb.New(time.Minute)},
		{Name: "per-key", Limit: 1000, Remaining: 999, Window: durationpb.New(time.Minute)},
	}}}
}

func (s stubQuota) Check(context.Context, *quotav1.CheckRequest, ...grpc.CallOption) (*quotav1.CheckResponse, error) {
	return s.check, nil
}

// CheckStream has no leases to give.
func (stubQuota) CheckStream(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse], error) {
	return nil, status.Error(codes.Unimplemented, "there is no stream")
}

type stubExecutor struct {
	executorv1.ExecutorServiceClient
	tools  *executorv1.ListToolsResponse
	result *executorv1.CallResponse
}

func newStubExecutor() stubExecutor {
	const text = `{"text":"` + marker + `"}`
	return stubExecutor{
		tools: &executorv1.ListToolsResponse{Version: "1", Tools: []*executorv1.Tool{{
			Definition: &providerv1.ToolDefinition{Name: "echo", InputSchema: []byte(`{"type":"object"}`)}, Available: true,
		}}},
		result: &executorv1.CallResponse{Event: &executorv1.CallResponse_Result{Result: &executorv1.Result{
			Result: &providerv1.ToolResult{
				Content:    []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: text}}},
				Structured: []byte(text),
			},
		}}},
	}
}

func (s stubExecutor) ListTools(context.Context, *executorv1.ListToolsRequest, ...grpc.CallOption) (*executorv1.ListToolsResponse, error) {
	return s.tools, nil
}

func (stubExecutor) Watch(ctx context.Context, _ *executorv1.WatchRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.WatchResponse], error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s stubExecutor) Call(context.Context, *executorv1.CallRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.CallResponse], error) {
	return &oneResult{result: s.result}, nil
}

// oneResult is a call that has its result at once.
type oneResult struct {
	grpc.ServerStreamingClient[executorv1.CallResponse]
	result *executorv1.CallResponse
}

// Recv implements [grpc.ServerStreamingClient].
func (s *oneResult) Recv() (*executorv1.CallResponse, error) {
	if s.result == nil {
		return nil, io.EOF
	}
	r := s.result
	s.result = nil
	return r, nil
}

type forgetful struct{}

func (forgetful) Record(context.Context, *auditv1.Event) error { return nil }

// quiet are notices that never come, and would.
type quiet struct{}

func (quiet) Listen(ctx context.Context, _ func()) { <-ctx.Done() }

func (quiet) Epoch() (uint64, bool) { return 1, true }
