package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// These tests run edges and the quota service as they are, in fake time and over
// memory; auth and the executor say yes to everything.

type yesAuth struct{ authv1.AuthServiceClient }

// principal is called by the token.
func principal(c *authv1.Credential) *authv1.Principal {
	return &authv1.Principal{Id: "user:" + c.GetToken(), CredentialId: c.GetToken(), Tenant: "default"}
}

func (yesAuth) Authenticate(_ context.Context, req *authv1.AuthenticateRequest, _ ...grpc.CallOption) (*authv1.AuthenticateResponse, error) {
	return &authv1.AuthenticateResponse{Principal: principal(req.GetCredential()), ValidFor: durationpb.New(time.Minute)}, nil
}

func (yesAuth) Authorize(_ context.Context, req *authv1.AuthorizeRequest, _ ...grpc.CallOption) (*authv1.AuthorizeResponse, error) {
	return &authv1.AuthorizeResponse{
		Decision:  &authv1.Decision{Id: audit.NewDecisionID(), Verdict: auditv1.Verdict_VERDICT_ALLOW},
		Principal: principal(req.GetCredential()), Grant: []byte("grant"), Cost: 1,
	}, nil
}

type yesExecutor struct {
	executorv1.ExecutorServiceClient
}

func (yesExecutor) Watch(ctx context.Context, _ *executorv1.WatchRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.WatchResponse], error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (yesExecutor) ListTools(context.Context, *executorv1.ListToolsRequest, ...grpc.CallOption) (*executorv1.ListToolsResponse, error) {
	return &executorv1.ListToolsResponse{Version: "1"}, nil
}

func (yesExecutor) Call(context.Context, *executorv1.CallRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.CallResponse], error) {
	return &yesResult{}, nil
}

type yesResult struct {
	grpc.ServerStreamingClient[executorv1.CallResponse]
	told bool
}

func (r *yesResult) Recv() (*executorv1.CallResponse, error) {
	if r.told {
		return nil, io.EOF
	}
	r.told = true
	return &executorv1.CallResponse{Event: &executorv1.CallResponse_Result{Result: &executorv1.Result{Result: &providerv1.ToolResult{
		Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: "done"}}},
	}}}}, nil
}

type noRecord struct{}

func (noRecord) Record(context.Context, *auditv1.Event) error { return nil }

// asked counts what an edge asks, and can cut it off.
type asked struct {
	quotav1.QuotaServiceClient
	checks atomic.Int64

	mu  sync.Mutex
	cut []context.CancelFunc
}

func (a *asked) Check(ctx context.Context, req *quotav1.CheckRequest, opts ...grpc.CallOption) (*quotav1.CheckResponse, error) {
	a.checks.Add(1)
	return a.QuotaServiceClient.Check(ctx, req, opts...)
}

func (a *asked) CheckStream(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse], error) {
	ctx, cancel := context.WithCancel(ctx)
	a.mu.Lock()
	a.cut = append(a.cut, cancel)
	a.mu.Unlock()
	s, err := a.QuotaServiceClient.CheckStream(ctx, opts...)
	return askedStream{s, a}, err
}

func (a *asked) cutOff() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, cancel := range a.cut {
		cancel()
	}
	a.cut = nil
}

type askedStream struct {
	grpc.BidiStreamingClient[quotav1.CheckStreamRequest, quotav1.CheckStreamResponse]
	a *asked
}

func (s askedStream) Send(req *quotav1.CheckStreamRequest) error {
	n := len(req.GetChecks()) + len(req.GetPacked())
	if req.GetCheck() != nil {
		n++
	}
	s.a.checks.Add(int64(n))
	return s.BidiStreamingClient.Send(req)
}

// noListener is one that nobody can connect to: requests are given to the handler.
type noListener struct {
	closed chan struct{}
	once   sync.Once
}

func (l *noListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *noListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*noListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

// leasing is an edge.
type leasing struct {
	t     *testing.T
	edge  *edge.Service
	asked *asked
	stop  func()
}

func newLeasing(t *testing.T, c quotav1.QuotaServiceClient) *leasing {
	t.Helper()
	cfg := edge.DefaultConfig()
	l := &leasing{t: t, asked: &asked{QuotaServiceClient: c}}
	var err error
	l.edge, err = edge.New(edge.Options{
		Config: cfg, Auth: yesAuth{}, Quota: l.asked, Executor: yesExecutor{}, Audit: noRecord{}, Version: "1",
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
		Listen: func(string) (net.Listener, error) { return &noListener{closed: make(chan struct{})}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.edge.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(l.stop)
	synctest.Wait() // the stream is there
	return l
}

// call makes one call, and returns whether it was allowed, and RateLimit.
func (l *leasing) call(token, address string) (allowed bool, limits string) {
	l.t.Helper()
	const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{},"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"tests","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`
	r := httptest.NewRequestWithContext(l.t.Context(), http.MethodPost, "http://localhost/mcp", strings.NewReader(body))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + token,
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo",
	} {
		r.Header.Set(name, value)
	}
	r.RemoteAddr = address + ":4711"
	w := httptest.NewRecorder()
	l.edge.ServeHTTP(w, r)
	switch {
	case w.Code != http.StatusOK:
		l.t.Fatalf("got %d %s", w.Code, w.Body)
	case bytes.Contains(w.Body.Bytes(), []byte(`"isError":true`)):
		if !bytes.Contains(w.Body.Bytes(), []byte(`"verdict":"DENY"`)) {
			l.t.Fatalf("got %s", w.Body)
		}
		return false, w.Header().Get("RateLimit")
	}
	return true, w.Header().Get("RateLimit")
}

// quotaOf is a quota service by rules, which are read from a file if there is one.
func quotaOf(t *testing.T, rules, file string) quotav1.QuotaServiceClient {
	t.Helper()
	cfg := quota.DefaultConfig()
	if file != "" {
		cfg.RulesFiles = quota.Strings{file}
	} else if err := yaml.Unmarshal([]byte(rules), &cfg); err != nil {
		t.Fatal(err)
	}
	svc, err := quota.New(cfg, nil, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		<-time.After(10 * time.Second) // the workers of the streams go home
	})
	return quotav1.NewQuotaServiceClient(rpctest.Serve(t, svc.Register))
}

func inFakeTime(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
