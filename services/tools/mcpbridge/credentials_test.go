package mcpbridge_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge"
)

func TestCredentialsAreReadFromFilesThatMayChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	token, key := write("token", "one\n"), write("key", "k")
	var want atomic.Value
	want.Store("Bearer one")
	s := &scripted{t: t, tools: oneTool, answers: answering(`{"content":[{"type":"text","text":"ok"}]}`)}
	srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want.Load() || r.Header.Get("X-Key") != "k" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.ServeHTTP(w, r)
	}))
	c := start(t, quick(mcpbridge.Upstream{Name: "up", URL: srv.URL, BearerFile: token, HeaderFiles: map[string]string{"X-Key": key}}))
	up(t, c)
	write("token", "two\n")
	want.Store("Bearer two")
	if got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_t"}); err != nil || text(got.result) != "ok" {
		t.Errorf("got %v, %v, want the new token to be used", got.result, err)
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	empty := ""
	tests := []struct {
		name string
		make func(*mcpbridge.Config)
		want []string // parts of the error, none if it is valid
	}{
		{"the defaults", func(*mcpbridge.Config) {}, nil},
		{"https", one(mcpbridge.Upstream{Name: "a", URL: "https://example.com/mcp"}), nil},
		{"http to this machine", one(mcpbridge.Upstream{Name: "a", URL: "http://localhost:1/mcp"}), nil},
		{"http to a private address that is allowed", one(mcpbridge.Upstream{Name: "a", URL: "http://10.0.0.1/", AllowPrivate: true}), nil},
		{"a command without a prefix", one(mcpbridge.Upstream{Name: "a", Command: []string{"x"}, Prefix: &empty}), nil},
		{"http elsewhere", one(mcpbridge.Upstream{Name: "a", URL: "http://example.com/"}), []string{"must be https"}},
		{"a password in the URL", one(mcpbridge.Upstream{Name: "a", URL: "https://u:p@example.com/"}), []string{"without user"}},
		{"neither URL nor command", one(mcpbridge.Upstream{Name: "a"}), []string{"one of url and command"}},
		{"both", one(mcpbridge.Upstream{Name: "a", URL: "https://x/", Command: []string{"x"}}), []string{"one of url and command"}},
		{
			"many mistakes at once",
			one(mcpbridge.Upstream{Name: "A!", Command: []string{""}, Era: "old", Sessions: 99, MaxInFlight: -1, Tools: mcpbridge.Filter{Allow: []string{"["}}, BearerFile: "f"}),
			[]string{"name:", "era:", "command:", "sessions:", "max_in_flight:", "tools:", "bearer_file"},
		},
		{"a header of the protocol", one(mcpbridge.Upstream{Name: "a", URL: "https://x/", HeaderFiles: map[string]string{"Mcp-Session-Id": "f"}}), []string{"headers_files"}},
		{"a variable twice", one(mcpbridge.Upstream{Name: "a", Command: []string{"x"}, Env: map[string]string{"A": "1"}, EnvFiles: map[string]string{"A": "f"}}), []string{"comes twice"}},
		{"a name twice", func(c *mcpbridge.Config) {
			c.Upstreams = []mcpbridge.Upstream{{Name: "a", URL: "https://x/"}, {Name: "a", URL: "https://y/"}}
		}, []string{"used twice"}},
		{"times out of range", func(c *mcpbridge.Config) { c.Keep, c.ParkFor, c.BackoffMax = -1, 0, 0 }, []string{"keep", "park_for", "backoff_max"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := mcpbridge.DefaultConfig()
			tt.make(&cfg)
			err := cfg.Validate()
			if (err == nil) != (len(tt.want) == 0) {
				t.Fatalf("got %v, want parts %q", err, tt.want)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %v, want it to name %q", err, part)
				}
			}
		})
	}
}

func one(u mcpbridge.Upstream) func(*mcpbridge.Config) {
	return func(c *mcpbridge.Config) { c.Upstreams = []mcpbridge.Upstream{u} }
}
