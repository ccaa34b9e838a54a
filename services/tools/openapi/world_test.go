package openapi_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi"
)

// world is an API over TLS at this machine, and files for its configuration.
type world struct {
	t   *testing.T
	dir string
	srv *httptest.Server
	log *journal

	mu sync.Mutex
	h  http.HandlerFunc
}

func newWorld(t *testing.T, h http.HandlerFunc) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), h: h, log: &journal{t: t}}
	w.srv = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		h := w.h
		w.mu.Unlock()
		h(rw, r)
	}))
	t.Cleanup(w.srv.Close)
	w.file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.srv.Certificate().Raw})))
	return w
}

func (w *world) serve(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.h = h
}

func (w *world) file(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil { // whoever reads it sees one or the other
		w.t.Fatal(err)
	}
	return path
}

// api is the configuration of a document in a file, of the API of this world.
func (w *world) api(doc string) openapi.API {
	return openapi.API{
		Name: "shop", File: w.file("shop.yaml", doc), BaseURL: w.srv.URL + "/v2", CAFile: filepath.Join(w.dir, "ca.pem"),
		Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
}

func shop(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// start runs a provider until the test ends.
func (w *world) start(apis ...openapi.API) providerv1.ProviderServiceClient {
	w.t.Helper()
	cfg := openapi.DefaultConfig()
	cfg.APIs, cfg.CheckEvery = apis, 10*time.Millisecond
	svc, err := openapi.New(cfg, "test", slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = svc.Run(ctx)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return providerv1.NewProviderServiceClient(rpctest.Serve(w.t, svc.Register, rpctest.As("executor")))
}

// up starts a provider and waits until it has tools of each API.
func (w *world) up(apis ...openapi.API) providerv1.ProviderServiceClient {
	w.t.Helper()
	c := w.start(apis...)
	until(w.t, c, "there are tools", func(all map[string]*providerv1.ToolDefinition) bool {
		have := map[string]bool{}
		for _, d := range all {
			have[d.GetOptions().GetTags()[0]] = true
		}
		return len(have) == len(apis)
	})
	return c
}

// until waits for the tools to satisfy a condition, following what Watch tells.
func until(t *testing.T, c providerv1.ProviderServiceClient, what string, ok func(map[string]*providerv1.ToolDefinition) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w, err := c.Watch(ctx, &providerv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := w.Recv(); err != nil {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		if ok(tools(t, c)) {
			return
		}
	}
}

func tools(t *testing.T, c providerv1.ProviderServiceClient) map[string]*providerv1.ToolDefinition {
	t.Helper()
	res, err := c.ListTools(t.Context(), &providerv1.ListToolsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*providerv1.ToolDefinition{}
	for _, d := range res.GetTools() {
		all[d.GetName()] = d
	}
	return all
}

func names(t *testing.T, c providerv1.ProviderServiceClient) string {
	t.Helper()
	var all []string
	for name := range tools(t, c) {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func call(t *testing.T, c providerv1.ProviderServiceClient, tool, args string) (*providerv1.ToolResult, error) {
	t.Helper()
	return callFor(t, c, &providerv1.CallToolRequest{Name: tool, Arguments: []byte(args)})
}

func callFor(t *testing.T, c providerv1.ProviderServiceClient, req *providerv1.CallToolRequest) (*providerv1.ToolResult, error) {
	t.Helper()
	if req.Principal == nil {
		req.Principal = &authv1.Principal{Id: "key:1"}
	}
	stream, err := c.CallTool(t.Context(), req)
	if err != nil {
		return nil, err
	}
	var result *providerv1.ToolResult
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return result, nil
		}
		if err != nil {
			return nil, err
		}
		result = m.GetResult()
	}
}

func text(r *providerv1.ToolResult) string {
	var s string
	for _, c := range r.GetContent() {
		s += c.GetText()
	}
	return s
}

// journal is a log that can be looked at, and waited for.
type journal struct {
	t *testing.T

	mu      sync.Mutex
	text    strings.Builder
	changed []chan struct{}
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.changed {
		close(c)
	}
	j.changed = nil
	j.text.Write(p)
	return j.t.Output().Write(p)
}

// await waits until a text was logged.
func (j *journal) await(what string) {
	j.t.Helper()
	timeout := time.After(time.Minute)
	for {
		j.mu.Lock()
		found := strings.Contains(j.text.String(), what)
		c := make(chan struct{})
		j.changed = append(j.changed, c)
		j.mu.Unlock()
		if found {
			return
		}
		select {
		case <-c:
		case <-timeout:
			j.t.Fatalf("%q was not logged", what)
		}
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// small is a document of GET /x with an answer of any JSON, and what else is given.
func small(more string) string {
	return fmt.Sprintf("openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths:\n  /x: {get: {operationId: getX, responses: {'200': {description: x}}}}\n%s", more)
}
