package edge_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

const metadataPath = "/.well-known/oauth-protected-resource"

// get asks for a path without a credential, and with headers in pairs.
func (w *world) get(t testing.TB, method, path string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	return do(t, r)
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	w, a := newOAuthWorld(t)
	want := map[string]any{
		"resource": "https://mcp.example.com/mcp", "authorization_servers": []any{"https://id.example.com/realms/a"},
		"scopes_supported": []any{"mcp", "sql:read"}, "bearer_methods_supported": []any{"header"},
		"resource_name": "Sally & co", "resource_documentation": "https://example.com/docs",
		"dpop_signing_alg_values_supported": []any{"ES256"},
	}
	tests := []struct {
		name, method, path string
		headers            []string
		status             int
	}{
		{"the plain form", "GET", metadataPath, nil, 200},
		{"the form with the path of the endpoint", "GET", metadataPath + "/mcp", nil, 200},
		{"HEAD is GET without the body", "HEAD", metadataPath + "/mcp", nil, 200},
		{"a query changes nothing", "GET", metadataPath + "/mcp?x=1", nil, 200},
		{"a page of this server may read it", "GET", metadataPath, []string{"Origin", "http://localhost:8080", "Host", "localhost:8080"}, 200},
		{"another path is another resource", "GET", metadataPath + "/other", nil, 404},
		{"nor is there anything below", "GET", metadataPath + "/mcp/x", nil, 404},
		{"a path that only begins so is none of it", "GET", metadataPath + "x", nil, 404},
		{"it cannot be written", "POST", metadataPath, nil, 405},
		{"nor asked for by a preflight", "OPTIONS", metadataPath + "/mcp", nil, 405},
		{"not under another name", "GET", metadataPath, []string{"Host", "evil.example"}, 403},
		{"not for another site's page", "GET", metadataPath, []string{"Origin", "https://evil.example"}, 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := w.get(t, tt.method, tt.path, tt.headers...)
			if got.status != tt.status {
				t.Fatalf("got %d %s, want %d", got.status, got.body, tt.status)
			}
			cached := got.header.Get("Cache-Control") == "public, max-age=300"
			if ok := tt.status == http.StatusOK; ok != cached {
				t.Errorf("got Cache-Control %q with status %d", got.header.Get("Cache-Control"), got.status)
			}
			if allow := got.header.Get("Allow"); tt.status == http.StatusMethodNotAllowed && allow != "GET, HEAD" {
				t.Errorf("got Allow %q", allow)
			}
			if tt.status != http.StatusOK || tt.method == http.MethodHead {
				return
			}
			var document map[string]any
			if err := json.Unmarshal(got.body, &document); err != nil || got.header.Get("Content-Type") != "application/json" {
				t.Fatalf("got %q %s: %v", got.header.Get("Content-Type"), got.body, err)
			}
			if diff := cmp.Diff(want, document); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.described != 1 {
		t.Errorf("auth was asked %d times, want once", a.described)
	}
}

func TestMetadataOfAResourceAtAnotherPath(t *testing.T) {
	t.Parallel()
	w, a := newOAuthWorld(t)
	a.change(func() { a.resource.Resource = "https://mcp.example.com/team/mcp" })
	for _, path := range []string{"", "/mcp", "/team/mcp"} {
		if got := w.get(t, http.MethodGet, metadataPath+path); got.status != http.StatusOK || !strings.Contains(string(got.body), "/team/mcp") {
			t.Errorf("%s: got %d %s, want the metadata", path, got.status, got.body)
		}
	}
	challenge := w.get(t, http.MethodGet, "/ping").header.Get("Www-Authenticate")
	if want := `resource_metadata="https://mcp.example.com` + metadataPath + `/team/mcp"`; !strings.Contains(challenge, want) {
		t.Errorf("got %s, want %s", challenge, want)
	}
}

func TestMetadataFollowsAuth(t *testing.T) {
	t.Parallel()
	w, a := newOAuthWorld(t)
	w = w.watched(t)
	a.change(func() { a.resource = &authv1.DescribeResourceResponse{} })
	if got := w.get(t, http.MethodGet, metadataPath); got.status != http.StatusNotFound {
		t.Errorf("without OAuth: got %d, want 404", got.status)
	}
	if got := w.get(t, http.MethodGet, "/ping").header.Get("Www-Authenticate"); got != `Bearer realm="sallyport"` {
		t.Errorf("without OAuth: got %s, want nothing of it", got)
	}
	a.change(func() { a.resource = describedResource() })
	if got := w.get(t, http.MethodGet, metadataPath); got.status != http.StatusNotFound {
		t.Errorf("got %d, want what is remembered", got.status)
	}
	until(t, "the edge listens for notices of policies", func() bool { return w.policies.changed.Load() != nil })
	(*w.policies.changed.Load())("p2")
	if got := w.get(t, http.MethodGet, metadataPath); got.status != http.StatusOK {
		t.Errorf("after a notice: got %d, want 200", got.status)
	}
	// What is known is told while auth is away.
	a.change(func() { a.resource = nil })
	(*w.policies.changed.Load())("p3")
	if got := w.get(t, http.MethodGet, metadataPath); got.status != http.StatusOK {
		t.Errorf("while auth is away: got %d, want what was known", got.status)
	}
}

// However many ask, auth is not asked for each, also not while it does not answer.
func TestMetadataIsNotKnownYet(t *testing.T) {
	t.Parallel()
	w, a := newOAuthWorld(t)
	a.change(func() { a.resource = nil })
	const clients = 32
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			resp, err := http.Get(w.url + metadataPath)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
				t.Errorf("got %s, Retry-After %q, want 503 and a time", resp.Status, resp.Header.Get("Retry-After"))
			}
		})
	}
	all.Wait()
	// A challenge is given all the same.
	if got := w.get(t, http.MethodGet, "/ping"); got.status != http.StatusUnauthorized || got.header.Get("Www-Authenticate") != `Bearer realm="sallyport"` {
		t.Errorf("got %d %s, want a plain challenge", got.status, got.header.Get("Www-Authenticate"))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.described >= clients { // once a second; how long the above takes is not known
		t.Errorf("auth was asked %d times for %d requests", a.described, clients)
	}
}
