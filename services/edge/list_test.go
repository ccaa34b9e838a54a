package edge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// bitsAuth answers lists as its contract says, by bits where a hash is given.
type bitsAuth struct {
	authv1.AuthServiceClient

	mu     sync.Mutex
	lists  map[string][]string // by hash
	hidden map[string]bool
	named  int // how often names were told
}

func (a *bitsAuth) FilterTools(_ context.Context, req *authv1.FilterToolsRequest, _ ...grpc.CallOption) (*authv1.FilterToolsResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	resp, names, hash := &authv1.FilterToolsResponse{Principal: anna()}, req.GetTools(), string(req.GetToolsSha256())
	if names == nil {
		if names = a.lists[hash]; names == nil {
			resp.ToolsNeeded = true
			return resp, nil
		}
	} else {
		h := sha256.New()
		for _, name := range names {
			_ = binary.Write(h, binary.BigEndian, uint32(len(name))) // a hash takes everything
			_, _ = io.WriteString(h, name)
		}
		if string(h.Sum(nil)) != hash {
			return nil, fmt.Errorf("got a hash that is not of %q", names)
		}
		a.named++
		a.lists[hash] = names
	}
	resp.AllowedBits = make([]byte, (len(names)+7)/8)
	for i, name := range names {
		if !a.hidden[name] {
			resp.AllowedBits[i/8] |= 1 << (i % 8)
		}
	}
	return resp, nil
}

// set changes what auth knows and hides.
func (a *bitsAuth) set(forget bool, hidden ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if forget {
		a.lists = make(map[string][]string)
	}
	a.hidden = make(map[string]bool)
	for _, name := range hidden {
		a.hidden[name] = true
	}
}

// told returns how often auth was told names since it was last asked.
func (a *bitsAuth) told() (named int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	named, a.named = a.named, 0
	return named
}

// changingExecutor has tools that can change.
type changingExecutor struct {
	stubExecutor
	mu    sync.Mutex
	names []string
}

func (e *changingExecutor) set(names ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names = names
}

func (e *changingExecutor) ListTools(_ context.Context, req *executorv1.ListToolsRequest, _ ...grpc.CallOption) (*executorv1.ListToolsResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	resp := &executorv1.ListToolsResponse{Version: fmt.Sprint(e.names)}
	if req.GetKnownVersion() == resp.GetVersion() {
		return resp, nil
	}
	for _, name := range e.names {
		resp.Tools = append(resp.Tools, &executorv1.Tool{Definition: &providerv1.ToolDefinition{Name: name, InputSchema: []byte(`{"type":"object"}`)}})
	}
	return resp, nil
}

// TestListsByHash lists page after page, and looks whether names are told only where
// auth does not know them.
func TestListsByHash(t *testing.T) {
	t.Parallel()
	cfg := edge.DefaultConfig()
	cfg.Listen, cfg.PageSize = "127.0.0.1:0", 4
	options := benchOptions(cfg)
	auth, executor := &bitsAuth{AuthServiceClient: options.Auth}, new(changingExecutor)
	auth.set(true)
	options.Auth, options.Executor = auth, executor
	s, err := edge.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	all := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	executor.set(all...)
	for _, tt := range []struct {
		name   string
		before func()
		want   []string
		named  int
	}{
		{"the first list tells names once, for all pages", func() {}, all, 1},
		{"nothing has changed", func() {}, all, 0},
		{"policies have changed", func() { auth.set(false, "a", "d", "i", "j") }, []string{"b", "c", "e", "f", "g", "h"}, 0},
		{"nothing is allowed", func() { auth.set(false, all...) }, nil, 0},
		{"auth has started anew", func() { auth.set(true, "b") }, slices.Concat(all[:1], all[2:]), 1},
		{"tools have changed", func() { executor.set("x", "b", "a") }, []string{"a", "x"}, 1},
		{"back to tools that are known", func() { executor.set(all...) }, slices.Concat(all[:1], all[2:]), 0},
		{"no tools", func() { executor.set() }, nil, 0},
	} {
		tt.before()
		if got := listAll(t, s); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if got := auth.told(); got != tt.named {
			t.Errorf("%s: names were told %d times, want %d", tt.name, got, tt.named)
		}
	}
}

// listAll returns the names of tools on all pages.
func listAll(t *testing.T, s http.Handler) (names []string) {
	t.Helper()
	params := ""
	for range 10 {
		r := request{method: "tools/list", params: params}.http(t, "http://127.0.0.1:8080")
		r.RemoteAddr, r.Host = "127.0.0.1:4711", "127.0.0.1:8080"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var answer struct {
			Result struct {
				Tools      []struct{ Name string }
				NextCursor string
			}
		}
		if err := json.NewDecoder(bytes.NewReader(w.Body.Bytes())).Decode(&answer); w.Code != http.StatusOK || err != nil {
			t.Fatalf("got %d %s (%v)", w.Code, w.Body, err)
		}
		for _, tool := range answer.Result.Tools {
			names = append(names, tool.Name)
		}
		if answer.Result.NextCursor == "" {
			return names
		}
		params = fmt.Sprintf(`"cursor":%q`, answer.Result.NextCursor)
	}
	t.Fatal("the list has no end")
	return nil
}
