package edge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// Whatever a request holds, the answer is one JSON object that this server made,
// under the id that was sent, and no bug.
func FuzzServe(f *testing.F) {
	type seed struct{ version, method, name, more, body string }
	for _, s := range []seed{
		{"2026-07-28", "tools/call", "echo", "", modernBody("tools/call", `"name":"echo","arguments":{"a":[1]}`)},
		{"2026-07-28", "tools/call", "=?base64?ZWNobw==?=", "a", modernBody("tools/call", `"name":"ech\u006f"`)},
		{"2026-07-28", "tools/list", "", "", modernBody("tools/list", `"cursor":"ZWNobw"`)},
		{"2026-07-28", "server/discover", "", "", modernBody("server/discover", "")},
		{"2025-11-25", "", "", "session", `{"jsonrpc":"2.0","id":"x","method":"initialize","params":{"protocolVersion":"2025-06-18"}}`},
		{"", "", "", "", `{"jsonrpc":"2.0","id":"x","method":"initialize","params":{"protocolVersion":"1"}}`},
		{"2025-06-18", "", "", "", `{"jsonrpc":"2.0","method":"notifications/initialized"}`},
		{"2025-06-18", "", "", "", `{"jsonrpc":"2.0","id":1,"method":"ping"}`},
		{"v9", "", "", "", `[{}]`},
	} {
		f.Add(s.version, s.method, s.name, s.more, []byte(s.body))
	}
	cfg := edge.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	o := benchOptions(cfg)
	o.Auth, o.Executor, o.Audit = listAuth{o.Auth}, listExecutor{o.Executor}, noAudit{}
	s, err := edge.New(o)
	if err != nil {
		f.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	f.Cleanup(func() {
		stop()
		<-done
	})
	f.Fuzz(func(t *testing.T, version, method, name, more string, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/mcp", bytes.NewReader(body))
		r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer good"}}
		for header, value := range map[string]string{
			"Mcp-Protocol-Version": version, "Mcp-Method": method, "Mcp-Name": name,
			"Mcp-Session-Id": more, "Traceparent": more, "Accept": more,
		} {
			if value != "" {
				r.Header[header] = []string{value}
			}
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == http.StatusAccepted && w.Body.Len() == 0 {
			return
		}
		switch w.Code {
		case http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge:
		default:
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		var answer struct {
			Version string          `json:"jsonrpc"`
			ID      json.RawMessage `json:"id"`
			Result  json.RawMessage `json:"result"`
			Error   *struct {
				Code    int
				Message string
				Data    map[string]any
			} `json:"error"`
		}
		dec := json.NewDecoder(strings.NewReader(w.Body.String()))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&answer); err != nil || dec.More() || answer.Version != "2.0" || (answer.Result == nil) == (answer.Error == nil) {
			t.Fatalf("got %d %s (%v)", w.Code, w.Body, err)
		}
		if e := answer.Error; e != nil && (e.Code == 0 || e.Code == -32603 || e.Message == "") {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		if answer.ID != nil && !bytes.Contains(body, answer.ID) {
			t.Fatalf("got id %s for %q", answer.ID, body)
		}
	})
}

// listAuth allows every tool to be listed.
type listAuth struct{ authv1.AuthServiceClient }

func (listAuth) FilterTools(_ context.Context, req *authv1.FilterToolsRequest, _ ...grpc.CallOption) (*authv1.FilterToolsResponse, error) {
	return &authv1.FilterToolsResponse{Principal: anna(), Allowed: req.GetTools()}, nil
}

// listExecutor has some tools.
type listExecutor struct {
	executorv1.ExecutorServiceClient
}

func (listExecutor) ListTools(context.Context, *executorv1.ListToolsRequest, ...grpc.CallOption) (*executorv1.ListToolsResponse, error) {
	return &executorv1.ListToolsResponse{Version: "v1", Tools: catalogue()}, nil
}

// Watch tells that there is nothing but tools.
func (listExecutor) Watch(ctx context.Context, _ *executorv1.WatchRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.WatchResponse], error) {
	return &oneNews{ctx: ctx}, nil
}

// oneNews tells one thing and then waits for the end.
type oneNews struct {
	grpc.ServerStreamingClient[executorv1.WatchResponse]
	ctx  context.Context
	told bool
}

func (n *oneNews) Recv() (*executorv1.WatchResponse, error) {
	if n.told {
		<-n.ctx.Done()
		return nil, n.ctx.Err()
	}
	n.told = true
	return &executorv1.WatchResponse{ToolsVersion: "v1"}, nil
}

// noAudit keeps nothing.
type noAudit struct{}

func (noAudit) Record(context.Context, *auditv1.Event) error { return nil }

func modernBody(method, params string) string {
	if params != "" {
		params += ","
	}
	return `{"jsonrpc":"2.0","id":7,"method":"` + method + `","params":{` + params + `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientInfo":{"name":"f","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
}
