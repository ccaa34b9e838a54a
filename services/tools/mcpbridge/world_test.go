package mcpbridge_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge"
)

// childMode names what the test binary is when it is started as an upstream.
const childMode = "MCPBRIDGE_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(child(mode))
	}
	os.Exit(m.Run())
}

// start runs a bridge with a configuration until the test ends.
func start(t *testing.T, cfg mcpbridge.Config) providerv1.ProviderServiceClient {
	t.Helper()
	client, _ := startStoppable(t, cfg)
	return client
}

func startStoppable(t *testing.T, cfg mcpbridge.Config) (providerv1.ProviderServiceClient, func()) {
	t.Helper()
	svc, err := mcpbridge.New(cfg, "test", slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = svc.Run(ctx)
	}()
	stop := func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return providerv1.NewProviderServiceClient(rpctest.Serve(t, svc.Register, rpctest.As("executor"))), stop
}

// quick is a configuration in which all that is waited for is short.
func quick(upstreams ...mcpbridge.Upstream) mcpbridge.Config {
	cfg := mcpbridge.DefaultConfig()
	cfg.Upstreams = upstreams
	cfg.BackoffMin, cfg.BackoffMax = 5*time.Millisecond, 50*time.Millisecond
	cfg.CheckEvery = 50 * time.Millisecond
	cfg.ListPause = 5 * time.Millisecond
	return cfg
}

// until waits for the tools to satisfy a condition, following what Watch tells.
func until(t *testing.T, c providerv1.ProviderServiceClient, what string, ok func(names []string) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, err := c.Watch(ctx, &providerv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := w.Recv(); err != nil {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		if ok(toolNames(t, c)) {
			return
		}
	}
}

func toolNames(t *testing.T, c providerv1.ProviderServiceClient) []string {
	t.Helper()
	res, err := c.ListTools(t.Context(), &providerv1.ListToolsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range res.GetTools() {
		names = append(names, d.GetName())
	}
	return names
}

// up waits until there are tools.
func up(t *testing.T, c providerv1.ProviderServiceClient) {
	t.Helper()
	until(t, c, "there are tools", func(names []string) bool { return len(names) > 0 })
}

// spoken is all that came of a call.
type spoken struct {
	progress []*providerv1.Progress
	notices  []*providerv1.Notice
	result   *providerv1.ToolResult
	asked    *providerv1.InputRequired
}

func call(t *testing.T, c providerv1.ProviderServiceClient, req *providerv1.CallToolRequest) (spoken, error) {
	t.Helper()
	return callCtx(t.Context(), c, req)
}

func callCtx(ctx context.Context, c providerv1.ProviderServiceClient, req *providerv1.CallToolRequest) (spoken, error) {
	if req.Principal == nil {
		req.Principal = &authv1.Principal{Id: "key:1"}
	}
	if req.Arguments == nil {
		req.Arguments = []byte("{}")
	}
	var out spoken
	stream, err := c.CallTool(ctx, req)
	if err != nil {
		return out, err
	}
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		switch e := m.GetEvent().(type) {
		case *providerv1.CallToolResponse_Progress:
			out.progress = append(out.progress, e.Progress)
		case *providerv1.CallToolResponse_Notice:
			out.notices = append(out.notices, e.Notice)
		case *providerv1.CallToolResponse_Result:
			out.result = e.Result
		case *providerv1.CallToolResponse_InputRequired:
			out.asked = e.InputRequired
		}
	}
}

func text(r *providerv1.ToolResult) string {
	var s string
	for _, c := range r.GetContent() {
		s += c.GetText()
	}
	return s
}

// scripted is an upstream over HTTP, of the legacy era and without sessions, that
// answers by method. What it answers is written as it is.
type scripted struct {
	t       *testing.T
	tools   string // the tools, a JSON array
	caps    string // its capabilities
	answers map[string]func(w http.ResponseWriter, r *http.Request, id, params json.RawMessage)
}

func (s *scripted) serve() *httptest.Server {
	srv := httptest.NewServer(s)
	s.t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	var m struct {
		ID     json.RawMessage
		Method string
		Params json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if answer := s.answers[m.Method]; answer != nil {
		answer(w, r, m.ID, m.Params)
		return
	}
	caps := s.caps
	if caps == "" {
		caps = `{"tools":{}}`
	}
	switch {
	case m.ID == nil:
		w.WriteHeader(http.StatusAccepted)
	case m.Method == "initialize":
		reply(w, m.ID, `{"protocolVersion":"2025-11-25","serverInfo":{"name":"s","version":"1"},"capabilities":`+caps+`}`)
	case m.Method == "ping":
		reply(w, m.ID, `{}`)
	case m.Method == "tools/list":
		reply(w, m.ID, `{"tools":`+s.tools+`}`)
	default:
		fail(w, m.ID, -32601, "method not found")
	}
}

func reply(w http.ResponseWriter, id json.RawMessage, result string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(id)+`,"result":`+result+`}`)
}

func fail(w http.ResponseWriter, id json.RawMessage, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	b, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": code, "message": message}})
	_, _ = w.Write(b)
}

// answering is a tools/call that has a fixed result.
func answering(result string) map[string]func(http.ResponseWriter, *http.Request, json.RawMessage, json.RawMessage) {
	return map[string]func(http.ResponseWriter, *http.Request, json.RawMessage, json.RawMessage){
		"tools/call": func(w http.ResponseWriter, _ *http.Request, id, _ json.RawMessage) { reply(w, id, result) },
	}
}

const oneTool = `[{"name":"t","inputSchema":{"type":"object"}}]`

// swappable is a handler that can be replaced.
type swappable struct {
	mu sync.Mutex
	h  http.Handler
}

func (s *swappable) set(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.h = h
}

func (s *swappable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.h
	s.mu.Unlock()
	h.ServeHTTP(w, r)
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}
