package edge_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// Each way in answers a bad credential with a challenge, so that a client begins
// its flow whatever it does first.
func TestEveryMethodChallenges(t *testing.T) {
	t.Parallel()
	w, _ := newOAuthWorld(t)
	const where, scope = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp", "mcp"
	check := func(name string, got answer, wantError string) {
		t.Helper()
		all, err := oauthex.ParseWWWAuthenticate(got.header["Www-Authenticate"])
		if err != nil || len(all) != 2 || got.status != http.StatusUnauthorized {
			t.Errorf("%s: got %d %q, %v", name, got.status, got.header["Www-Authenticate"], err)
			return
		}
		if p := all[0].Params; all[0].Scheme != "bearer" || p["resource_metadata"] != where || p["scope"] != scope || p["error"] != wantError {
			t.Errorf("%s: got %v", name, all[0])
		}
		if p := all[1].Params; all[1].Scheme != "dpop" || p["algs"] != "ES256" || p["error"] != "" {
			t.Errorf("%s: got %v", name, all[1])
		}
	}
	for _, version := range []string{"2026-07-28", "2025-11-25", "2025-06-18"} {
		for _, method := range []string{"initialize", "server/discover", "ping", "tools/list", "tools/call", "resources/list", "prompts/get", "subscriptions/listen", "no/such"} {
			name := version + " " + method
			check(name, w.send(t, request{version: version, method: method, headers: map[string]string{"Authorization": ""}}), "")
			check(name, w.send(t, request{version: version, method: method, token: "bad"}), "invalid_token")
		}
	}
	check("the stream of a session", w.get(t, http.MethodGet, "/mcp", "Mcp-Session-Id", "x", "Accept", "text/event-stream", "Mcp-Protocol-Version", "2025-11-25"), "")
	check("ping", w.get(t, http.MethodGet, "/ping"), "")
	check("a token that ends at the call", w.send(t, request{token: "good-until-called"}), "invalid_token")
	check("a token that ends at the list", w.send(t, request{token: "good-until-called", method: "tools/list"}), "invalid_token")
}

func TestStepUp(t *testing.T) {
	t.Parallel()
	w, _ := newOAuthWorld(t)
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		got := w.send(t, request{version: version, params: `"name":"needs_scope"`})
		all, err := oauthex.ParseWWWAuthenticate(got.header["Www-Authenticate"])
		if err != nil || len(all) != 1 || got.status != http.StatusForbidden {
			t.Fatalf("got %d %q, %v", got.status, got.header["Www-Authenticate"], err)
		}
		want := map[string]string{
			"realm": "sallyport", "error": "insufficient_scope", "scope": "sql:read sql:run",
			"resource_metadata": "https://mcp.example.com/.well-known/oauth-protected-resource/mcp",
			"error_description": "The token lacks scopes that this needs. Get one that has those in the challenge",
		}
		if diff := cmp.Diff(want, all[0].Params); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if reason := got.reason(t); reason != "INSUFFICIENT_SCOPE" {
			t.Errorf("got reason %s", reason)
		}
	}
}

func TestProofsArePassedOn(t *testing.T) {
	t.Parallel()
	const proof = "e30.e30.c2ln"
	tests := []struct {
		name      string
		publicURL string
		host      string
		path      string
		method    string
		token     string
		want      string // the URI that auth is told
	}{
		{name: "for the URL that was called", want: "http://HOST/mcp"},
		{name: "without the query", path: "/mcp?x=1#y", want: "http://HOST/mcp"},
		{name: "without the port that everybody has", host: "LocalHost:80", want: "http://localhost/mcp"},
		{name: "for the URL that is configured", publicURL: "https://mcp.example.com", host: "localhost", want: "https://mcp.example.com/mcp"},
		{name: "whatever path is before it", publicURL: "https://example.com/team/", want: "https://example.com/team/mcp"},
		{name: "for other methods, too", path: "/ping", method: http.MethodGet, want: "http://HOST/ping"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, a := newOAuthWorld(t, func(o *edge.Options) { o.Config.PublicURL = tt.publicURL })
			q := request{headers: map[string]string{"Authorization": "DPoP bound", "DPoP": proof, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}}
			r := q.http(t, w.url)
			if tt.method != "" {
				r.Method, r.Body, r.ContentLength = tt.method, nil, 0
			}
			r.URL.Path, r.URL.RawQuery, _ = strings.Cut(or(tt.path, "/mcp"), "?")
			r.Host = tt.host
			if got := do(t, r); got.status != http.StatusOK {
				t.Fatalf("got %d %s", got.status, got.body)
			}
			shown, used := a.credentials()
			c := shown[0]
			want := strings.ReplaceAll(tt.want, "HOST", w.edge.Addr())
			if c.GetScheme() != authv1.Scheme_SCHEME_DPOP || c.GetToken() != "bound" || c.GetDpopProof() != proof ||
				c.GetHttpUri() != want || c.GetHttpMethod() != r.Method || len(c.GetProofReceipt()) > 0 {
				t.Errorf("auth was shown %v, want a proof for %s %s", c, r.Method, want)
			}
			for _, c := range used {
				if string(c.GetProofReceipt()) != "receipt for "+proof || c.GetDpopProof() != proof || c.GetHttpUri() != want {
					t.Errorf("auth was then shown %v, want the same with the receipt", c)
				}
			}
			if len(shown) != 1 || tt.method == "" && len(used) != 1 {
				t.Errorf("auth was asked %d and %d times, want once each", len(shown), len(used))
			}
		})
	}
}

func TestProofsThatAreNotGood(t *testing.T) {
	t.Parallel()
	w, a := newOAuthWorld(t)
	proved := func(t *testing.T, name string, authorization string, proofs ...string) answer {
		t.Helper()
		r := request{method: "server/discover"}.http(t, w.url)
		r.Header["Authorization"] = []string{authorization}
		if len(proofs) > 0 {
			r.Header["Dpop"] = proofs
		}
		return do(t, r)
	}
	if got := proved(t, "a new proof", "DPoP bound", "a.b.c"); got.status != http.StatusOK {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	tests := []struct {
		name, authorization string
		proofs              []string
		bearer, dpop        string // error of each challenge
	}{
		{"the same proof again", "DPoP bound", []string{"a.b.c"}, "", "invalid_dpop_proof"},
		{"no proof", "DPoP bound", nil, "", "invalid_dpop_proof"},
		{"an empty proof", "DPoP bound", []string{""}, "", "invalid_dpop_proof"},
		{"two proofs", "DPoP bound", []string{"d.e.f", "g.h.i"}, "", "invalid_dpop_proof"},
		{"two proofs in one line", "DPoP bound", []string{"d.e.f,g.h.i"}, "", "invalid_dpop_proof"},
		{"two proofs beside a key", "Bearer good", []string{"d.e.f", "g.h.i"}, "", "invalid_dpop_proof"},
		{"a proof that is too long", "DPoP bound", []string{strings.Repeat("p", 8193)}, "", "invalid_dpop_proof"},
		{"a bound token as a plain one", "Bearer bound", nil, "invalid_token", "invalid_token"},
		{"a bound token as a plain one, beside a proof", "Bearer bound", []string{"d.e.f"}, "invalid_token", "invalid_token"},
		{"an unknown token with a proof", "DPoP unknown", []string{"d.e.f"}, "invalid_token", ""},
		{"no token", "DPoP ", []string{"d.e.f"}, "invalid_token", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := proved(t, tt.name, tt.authorization, tt.proofs...)
			all, err := oauthex.ParseWWWAuthenticate(got.header["Www-Authenticate"])
			if err != nil || len(all) != 2 || got.status != http.StatusUnauthorized {
				t.Fatalf("got %d %q, %v", got.status, got.header["Www-Authenticate"], err)
			}
			if all[0].Params["error"] != tt.bearer || all[1].Params["error"] != tt.dpop {
				t.Errorf("got %q", got.header["Www-Authenticate"])
			}
		})
	}
	// No answer to a proof is remembered, so each new one is checked.
	before, _ := a.credentials()
	for i := range 3 {
		if got := proved(t, "new", "DPoP bound-for-long", fmt.Sprintf("x.y.%d", i)); got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
	if after, _ := a.credentials(); len(after)-len(before) != 3 {
		t.Errorf("auth was asked %d times for three proofs", len(after)-len(before))
	}
}

// What a token may be is what auth reads: 16 KiB, with a proof of 8.
func TestTheLongestCredential(t *testing.T) {
	t.Parallel()
	w, a := newOAuthWorld(t)
	token, proof := strings.Repeat("t", 16384), strings.Repeat("p", 8192)
	if got := w.send(t, request{headers: map[string]string{"Authorization": "DPoP " + token, "DPoP": proof}}); got.status != http.StatusUnauthorized {
		t.Fatalf("got %d %s, want auth's word", got.status, got.body)
	}
	shown, _ := a.credentials()
	if len(shown) != 1 || shown[0].GetToken() != token || shown[0].GetDpopProof() != proof {
		t.Errorf("auth was shown %d credentials, want this one", len(shown))
	}
	if got := w.send(t, request{token: token + "t"}); got.status != http.StatusUnauthorized {
		t.Errorf("got %d for a longer one", got.status)
	}
	if shown, _ := a.credentials(); len(shown) != 1 {
		t.Error("auth was shown a token that is too long")
	}
}

// A stream is one request: its proof is good as long as the token is, and nothing
// is told on a token that has run out.
func TestStreamsEndWithTheirTokens(t *testing.T) {
	t.Parallel()
	for _, headers := range []map[string]string{
		{"Authorization": "DPoP bound", "DPoP": "a.b.c", "Accept": "text/event-stream, application/json"},
		{"Authorization": "Bearer short", "Accept": "text/event-stream, application/json"},
	} {
		t.Run(headers["Authorization"], func(t *testing.T) {
			t.Parallel()
			w, a := newOAuthWorld(t)
			w = w.watched(t)
			q := request{method: "subscriptions/listen", params: `"notifications":{"promptsListChanged":true}`, headers: headers}
			stream := openEvents(t, q.http(t, w.url))
			if stream.resp.StatusCode != http.StatusOK {
				t.Fatalf("got %s", stream.resp.Status)
			}
			stream.message(t)
			for range 2 { // auth vouches for it anew
				w.tell(t, &executorv1.WatchResponse{PromptsChanged: true})
				if m := stream.message(t); m.Method != promptsChanged {
					t.Fatalf("got %s %s, want the news", m.Method, m.Params)
				}
			}
			a.change(func() { a.over = true })
			w.tell(t, &executorv1.WatchResponse{PromptsChanged: true})
			if m := stream.message(t); m.Method != "" || m.ID == nil {
				t.Errorf("got %s, want the end and no news", m.Method)
			}
			shown, used := a.credentials()
			shown = slices.DeleteFunc(shown, func(c *authv1.Credential) bool { return c.GetToken() == "good" })
			want := 4 // at the beginning, and before each news
			if proved := headers["DPoP"] != ""; proved {
				want = 1
			}
			if len(shown) != want || len(shown)+len(used) < 5 { // one is about the permission to listen
				t.Errorf("auth was asked to authenticate %d times, and %d other questions; want %d and one before each news", len(shown), len(used), want)
			}
		})
	}
}
