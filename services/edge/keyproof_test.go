package edge_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// Where there is no OAuth, a client with an API key that needs a proof is told so,
// and nobody else hears of DPoP. What is remembered of a key never stands for a
// proof.
func TestProofsOfKeysWithoutOAuth(t *testing.T) {
	t.Parallel()
	w, a := newOAuthWorld(t)
	a.change(func() { a.resource = &authv1.DescribeResourceResponse{DpopAlgorithms: []string{"ES256", "EdDSA"}} })
	tests := []struct {
		name    string
		headers map[string]string
		status  int
		bearer  string            // error of its challenge
		dpop    map[string]string // parameters of its challenge, nil if there is none
	}{
		{"a good proof", map[string]string{"Authorization": "DPoP bound", "DPoP": "a.b.c"}, http.StatusOK, "", nil},
		{"the same proof again", map[string]string{"Authorization": "DPoP bound", "DPoP": "a.b.c"}, http.StatusUnauthorized, "", map[string]string{"algs": "ES256 EdDSA", "error": "invalid_dpop_proof"}},
		{"another proof", map[string]string{"Authorization": "DPoP bound", "DPoP": "d.e.f"}, http.StatusOK, "", nil},
		{"the key as Bearer", map[string]string{"Authorization": "Bearer bound"}, http.StatusUnauthorized, "invalid_token", map[string]string{"algs": "ES256 EdDSA", "error": "invalid_token"}},
		{"the key as Bearer, beside a proof", map[string]string{"Authorization": "Bearer bound", "DPoP": "g.h.i"}, http.StatusUnauthorized, "invalid_token", map[string]string{"algs": "ES256 EdDSA", "error": "invalid_token"}},
		{"the key as X-API-Key", map[string]string{"Authorization": "", "X-API-Key": "bound"}, http.StatusUnauthorized, "invalid_token", map[string]string{"algs": "ES256 EdDSA", "error": "invalid_token"}},
		{"the key in both ways", map[string]string{"Authorization": "DPoP bound", "DPoP": "j.k.l", "X-API-Key": "bound"}, http.StatusUnauthorized, "invalid_request", nil},
		{"no proof", map[string]string{"Authorization": "DPoP bound"}, http.StatusUnauthorized, "", map[string]string{"algs": "ES256 EdDSA", "error": "invalid_dpop_proof"}},
		{"a key of nobody", map[string]string{"Authorization": "Bearer bad"}, http.StatusUnauthorized, "invalid_token", nil},
		{"no key", map[string]string{"Authorization": ""}, http.StatusUnauthorized, "", nil},
	}
	for _, tt := range tests {
		got := w.send(t, request{method: "tools/list", headers: tt.headers})
		if got.status != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.name, got.status, got.body, tt.status)
		}
		if got.status != http.StatusUnauthorized {
			continue
		}
		all, err := oauthex.ParseWWWAuthenticate(got.header["Www-Authenticate"])
		if err != nil || len(all) == 0 || all[0].Scheme != "bearer" || all[0].Params["error"] != tt.bearer {
			t.Errorf("%s: got %q, %v; want Bearer with error %q first", tt.name, got.header["Www-Authenticate"], err, tt.bearer)
			continue
		}
		var dpop map[string]string
		if len(all) > 1 && all[1].Scheme == "dpop" {
			dpop = all[1].Params
		}
		if diff := cmp.Diff(tt.dpop, dpop); diff != "" {
			t.Errorf("%s: DPoP (-want +got):\n%s", tt.name, diff)
		}
	}
	if got := w.get(t, http.MethodGet, metadataPath); got.status != http.StatusNotFound {
		t.Errorf("metadata: got %d %s, want none", got.status, got.body)
	}
}
