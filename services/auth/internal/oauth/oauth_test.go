package oauth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth"
)

const resource = "https://gate.example.com/mcp"

// Each token is a good one but for one thing.
func TestVerify(t *testing.T) {
	t.Parallel()
	const (
		good       = auditv1.Reason_REASON_UNSPECIFIED
		malformed  = auditv1.Reason_REASON_CREDENTIAL_MALFORMED
		unknown    = auditv1.Reason_REASON_CREDENTIAL_UNKNOWN
		expired    = auditv1.Reason_REASON_CREDENTIAL_EXPIRED
		restricted = auditv1.Reason_REASON_CREDENTIAL_RESTRICTED
	)
	ours, stranger := newSigner(t, "one"), newSigner(t, "one")
	i := newIssuer(t, ours)
	other := newIssuer(t, stranger) // whom nobody has configured
	v := i.verifier(t, nil)
	now := time.Now()
	header := object{"alg": "ES256", "kid": "one", "typ": "at+jwt"}
	with := func(base object, edits object) object {
		all := maps.Clone(base)
		for name, value := range edits {
			if value == nil {
				delete(all, name)
			} else {
				all[name] = value
			}
		}
		return all
	}
	claims := func(edits object) string {
		return ours.sign(t, part(t, header), part(t, with(i.claims(now), edits)))
	}
	heads := func(edits object) string {
		return ours.sign(t, part(t, with(header, edits)), part(t, i.claims(now)))
	}
	raw := func(payload string) string { return ours.sign(t, part(t, header), encode([]byte(payload))) }
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	fine := claims(nil)
	parts := strings.Split(fine, ".")
	unsigned := part(t, object{"alg": "none"}) + "." + parts[1] + "."
	// The public key as it is published, taken for a secret that is shared.
	confused := func() string {
		text, err := json.Marshal(ours.jwk())
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, text)
		signed := part(t, object{"alg": "HS256", "kid": "one"}) + "." + parts[1]
		mac.Write([]byte(signed))
		return signed + "." + encode(mac.Sum(nil))
	}
	foreign := other.claims(now)
	foreign["aud"] = resource
	tests := []struct {
		name  string
		token string
		want  auditv1.Reason
	}{
		{"a good one", fine, good},
		{"of no type", heads(object{"typ": nil}), good},
		{"of the type JWT", heads(object{"typ": "JWT"}), good},
		{"of the type application/at+jwt", heads(object{"typ": "application/at+jwt"}), good},
		{"an audience among others", claims(object{"aud": []string{"https://a.example", resource}}), good},
		{"an audience in capitals", claims(object{"aud": "HTTPS://GATE.example.com/mcp"}), good},
		{"an audience with a slash", claims(object{"aud": resource + "/"}), good},
		{"without a key id, where one key fits", heads(object{"kid": nil}), good},
		{"a clock that is a little ahead", claims(object{"iat": at(20 * time.Second), "nbf": at(20 * time.Second)}), good},
		{"a clock that is a little behind", claims(object{"exp": at(-20 * time.Second)}), good},
		{"a header that names another place for keys", heads(object{"jku": other.URL + "/keys", "x5u": other.URL}), good},

		{"nothing", "", malformed},
		{"two parts", parts[0] + "." + parts[1], malformed},
		{"four parts", fine + ".x", malformed},
		{"padding", fine + "=", malformed},
		{"a line break", fine + "\n", malformed},
		{"too long", claims(object{"x": strings.Repeat("x", 17<<10)}), malformed},
		{"an encrypted one", parts[0] + "." + parts[1] + ".a.b.c", malformed},
		{"no signature", unsigned, malformed},
		{"alg none in other letters", ours.sign(t, part(t, object{"alg": "nOnE"}), parts[1]), malformed},
		{"a public key as a secret", confused(), malformed},
		{"an extension that must be understood", heads(object{"crit": []string{"x"}, "x": 1}), malformed},
		{"an ID token's or a proof's type", heads(object{"typ": "dpop+jwt"}), malformed},
		{"a claim twice", raw(`{"iss":"` + i.URL + `","iss":"` + i.URL + `"}`), malformed},
		{"claims that are no object", raw(`["x"]`), malformed},
		{"no expiry", claims(object{"exp": nil}), malformed},
		{"an expiry in words", claims(object{"exp": "4102444800"}), malformed},
		{"an expiry beyond all numbers", raw(`{"iss":"` + i.URL + `","aud":"` + resource + `","sub":"a","exp":1e400}`), malformed},
		{"an expiry before all time", claims(object{"exp": -1}), malformed},
		{"an audience that is a number", claims(object{"aud": 7}), malformed},

		{"another signature", parts[0] + "." + parts[1] + "." + encode(make([]byte, 64)), unknown},
		{"other claims under the signature", parts[0] + "." + part(t, with(i.claims(now), object{"sub": "root"})) + "." + parts[2], unknown},
		{"signed by a stranger under the same key id", stranger.sign(t, parts[0], parts[1]), unknown},
		{"a key of its own", stranger.sign(t, part(t, with(header, object{"jwk": stranger.jwk()})), parts[1]), unknown},
		{"a key id that is a path", heads(object{"kid": "../../dev/null"}), unknown},
		{"a key id that is SQL", heads(object{"kid": "x' UNION SELECT 'secret"}), unknown},
		{"an algorithm that is not for the key", heads(object{"alg": "RS256"}), unknown},
		{"an algorithm that the issuer does not use", heads(object{"alg": "ES512"}), unknown},
		{"another issuer", stranger.sign(t, part(t, header), part(t, foreign)), unknown},
		{"an issuer with a slash", claims(object{"iss": i.URL + "/"}), unknown},
		{"no issuer", claims(object{"iss": nil}), unknown},

		{"expired", claims(object{"exp": at(-time.Minute)}), expired},

		{"not yet valid", claims(object{"nbf": at(time.Minute)}), restricted},
		{"issued in the future", claims(object{"iat": at(time.Minute)}), restricted},
		{"no audience", claims(object{"aud": nil}), restricted},
		{"another audience", claims(object{"aud": "https://other.example.com/mcp"}), restricted},
		{"an audience that is a beginning of ours", claims(object{"aud": "https://gate.example.com"}), restricted},
		{"an audience that goes on after ours", claims(object{"aud": resource + "/admin"}), restricted},
		{"an audience with other letters in the path", claims(object{"aud": "https://gate.example.com/MCP"}), restricted},
		{"bound to a key, and shown without a proof", claims(object{"cnf": object{"jkt": "x"}}), restricted},
		{"bound in a new way and an old one", claims(object{"cnf": object{"jkt": "x", "new": "x"}}), restricted},
		{"bound in a new way", claims(object{"cnf": object{"new": "x"}}), restricted},
		{"nobody", claims(object{"sub": nil, "client_id": nil}), restricted},
		{"a subject that does not print", claims(object{"sub": "a\nb"}), restricted},
		{"a subject that is too long", claims(object{"sub": strings.Repeat("x", 300)}), restricted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := v.Verify(t.Context(), tt.token, now, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Reason != tt.want || (got.Identity != nil) != (tt.want == good) {
				t.Errorf("got %v (%s), want %v", got.Reason, got.Why, tt.want)
			}
		})
	}
	t.Cleanup(func() {
		if n := other.fetches.Load(); n > 0 {
			t.Errorf("%d fetches from a place that only tokens name", n)
		}
	})
}

func TestPrincipal(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "one")
	i := newIssuer(t, s)
	now := time.Now()
	tests := []struct {
		name   string
		issuer oauth.Issuer
		edit   object
		want   *authv1.Principal
		scopes []string
	}{
		{
			"a user",
			oauth.Issuer{},
			nil,
			&authv1.Principal{Id: "user:" + i.URL + "/anna", Name: "Anna", Owner: "anna@example.com", Tenant: "default", Roles: []string{"analyst"}},
			[]string{"tools:read", "sql:run", "sql:read"},
		},
		{
			"a client for itself",
			oauth.Issuer{DefaultRoles: []string{"robot"}},
			object{"sub": "inspector", "roles": nil, "scope": nil, "scp": []string{"a", "b"}},
			&authv1.Principal{Id: "client:" + i.URL + "/inspector", Name: "Anna", Owner: "anna@example.com", Tenant: "default", Roles: []string{"robot"}},
			[]string{"a", "b"},
		},
		{
			"mapped roles and a tenant, deep in the claims",
			oauth.Issuer{
				Claims:  oauth.Claims{Roles: "realm_access.roles", Tenant: "https://example.com/org"},
				RoleMap: map[string][]string{"Data Science": {"analyst", "intern"}},
			},
			object{"realm_access": object{"roles": []string{"Data Science", "admin"}}, "https://example.com/org": "acme", "scope": ""},
			&authv1.Principal{Id: "user:" + i.URL + "/anna", Name: "Anna", Owner: "anna@example.com", Tenant: "acme", Roles: []string{"analyst", "intern"}},
			nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := i.verifier(t, func(c *oauth.Config) {
				tt.issuer.Issuer = i.URL
				c.Issuers = []oauth.Issuer{tt.issuer}
				c.ScopeImplies = map[string][]string{"sql:run": {"sql:read"}}
			})
			claims := i.claims(now)
			for name, value := range tt.edit {
				claims[name] = value
				if value == nil {
					delete(claims, name)
				}
			}
			token := s.sign(t, part(t, object{"alg": "ES256", "kid": "one"}), part(t, claims))
			got, err := v.Verify(t.Context(), token, now, nil)
			if err != nil || got.Identity == nil {
				t.Fatalf("got %+v, %v", got, err)
			}
			p := got.Identity.Principal
			if id := p.GetCredentialId(); !strings.HasPrefix(id, "t_") || len(id) != 18 || strings.Contains(token, id[2:]) {
				t.Errorf("got credential id %q", id)
			}
			p.CredentialId = ""
			if diff := cmp.Diff(tt.want, p, protocmp.Transform()); diff != "" {
				t.Errorf("principal (-want +got):\n%s", diff)
			}
			want := make(map[string]bool)
			for _, scope := range tt.scopes {
				want[scope] = true
			}
			if diff := cmp.Diff(want, got.Identity.Scopes); diff != "" {
				t.Errorf("scopes (-want +got):\n%s", diff)
			}
		})
	}
}

// What tokens say makes nobody fetch keys more often than is configured.
func TestFloodOfKeyIDs(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "one")
	i := newIssuer(t, s)
	v := i.verifier(t, func(c *oauth.Config) { c.MinInterval = time.Hour })
	now := time.Now()
	payload := part(t, i.claims(now))
	for n := range 1000 {
		token := s.sign(t, part(t, object{"alg": "ES256", "kid": fmt.Sprint("k", n)}), payload)
		if got, err := v.Verify(t.Context(), token, now, nil); err != nil || got.Identity != nil {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	if n := i.fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
	token := s.sign(t, part(t, object{"alg": "ES256", "kid": "one"}), payload)
	if got, err := v.Verify(t.Context(), token, now, nil); err != nil || got.Identity == nil {
		t.Errorf("a good token among them: got %+v, %v", got, err)
	}
}

func TestKeysAreReplaced(t *testing.T) {
	t.Parallel()
	before, after := newSigner(t, "old"), newSigner(t, "new")
	i := newIssuer(t, before)
	v := i.verifier(t, func(c *oauth.Config) { c.MinInterval = time.Nanosecond })
	now := time.Now()
	token := func(s signer) string {
		return s.sign(t, part(t, object{"alg": "ES256", "kid": s.id}), part(t, i.claims(now)))
	}
	verify := func(s signer) *oauth.Verdict {
		t.Helper()
		got, err := v.Verify(t.Context(), token(s), now, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	old := verify(before)
	if old.Identity == nil || !old.Current(now) || old.Current(now.Add(2*time.Hour)) {
		t.Fatalf("with the first key: got %+v", old)
	}
	i.publish(before, after)
	if verify(after).Identity == nil || verify(before).Identity == nil {
		t.Error("a new key, or the old one beside it, is not taken")
	}
	i.publish(after)
	verify(newSigner(t, "makes it look")) // unknown, so the keys are fetched again
	if old.Current(now) {
		t.Error("a verdict outlives the key that it was made with")
	}
	if verify(before).Identity != nil {
		t.Error("a key that was taken away is still taken")
	}
}

func TestIssuerThatIsAway(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "one")
	i := newIssuer(t, s)
	i.down.Store(true)
	now := time.Now()
	token := s.sign(t, part(t, object{"alg": "ES256", "kid": "one"}), part(t, i.claims(now)))
	v := i.verifier(t, func(c *oauth.Config) { c.MinInterval = time.Nanosecond })
	if _, err := v.Verify(t.Context(), token, now, nil); !errors.Is(err, oauth.ErrNotReady) {
		t.Errorf("before any key is known: got %v", err)
	}
	i.down.Store(false)
	if got, err := v.Verify(t.Context(), token, now, nil); err != nil || got.Identity == nil {
		t.Errorf("when it is back: got %+v, %v", got, err)
	}
	i.down.Store(true)
	stranger := newSigner(t, "two").sign(t, part(t, object{"alg": "ES256", "kid": "two"}), part(t, i.claims(now)))
	if got, err := v.Verify(t.Context(), stranger, now, nil); err != nil || got.Identity != nil {
		t.Errorf("a key that cannot be looked for: got %+v, %v", got, err)
	}
	if got, err := v.Verify(t.Context(), token, now, nil); err != nil || got.Identity == nil {
		t.Errorf("by keys that are not too old: got %+v, %v", got, err)
	}
	short := i.verifier(t, func(c *oauth.Config) { c.MinInterval, c.MaxStale = time.Hour, time.Nanosecond })
	i.down.Store(false)
	if _, err := short.Verify(t.Context(), token, now, nil); !errors.Is(err, oauth.ErrNotReady) {
		t.Errorf("by keys that are too old: got %v", err)
	}
}

// An answer that is not the issuer's, is too long or leads elsewhere is none.
func TestBadAnswersOfIssuers(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "one")
	elsewhere := newIssuer(t, s)
	tests := []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"metadata of another issuer", func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(object{"issuer": elsewhere.URL, "jwks_uri": elsewhere.URL + "/keys"})
		}},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/keys", http.StatusFound)
		}},
		{"more than there can be", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[` + strings.Repeat(" ", 70<<10) + `]}`))
		}},
		{"no keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) }},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<html>`)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tt.answer)
			t.Cleanup(srv.Close)
			for _, direct := range []bool{true, false} {
				c := oauth.DefaultConfig()
				c.Resource, c.Issuers = resource, []oauth.Issuer{{Issuer: srv.URL}}
				if direct {
					c.Issuers[0].JWKSURL = srv.URL + "/keys"
				}
				v, err := oauth.New(c, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				claims := elsewhere.claims(time.Now())
				claims["iss"] = srv.URL
				token := s.sign(t, part(t, object{"alg": "ES256", "kid": "one"}), part(t, claims))
				if _, err := v.Verify(t.Context(), token, time.Now(), nil); !errors.Is(err, oauth.ErrNotReady) {
					t.Errorf("got %v, want %v", err, oauth.ErrNotReady)
				}
			}
		})
	}
	t.Cleanup(func() {
		if n := elsewhere.fetches.Load(); n > 0 {
			t.Errorf("%d fetches from another place", n)
		}
	})
}

func TestConfigNamesEveryMistake(t *testing.T) {
	t.Parallel()
	if err := oauth.DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	c := oauth.DefaultConfig()
	c.Resource, c.Skew, c.ChallengeScopes = "http://gate.example.com/", time.Hour, []string{`a"b`}
	c.Issuers = []oauth.Issuer{
		{Issuer: "http://id.example.com", JWKSURL: "ftp://x", Algorithms: []string{"HS256"}, DefaultRoles: []string{"Admin"}, DefaultTenant: "A", DPoP: "x"},
		{Issuer: "http://id.example.com"},
	}
	err := c.Validate()
	for _, want := range []string{
		"resource:", "skew:", "challenge_scopes[0]", "issuers[0].issuer", "issuers[0].jwks_url", "issuers[0].algorithms", "issuers[0].default_roles",
		"issuers[0].default_tenant", "issuers[0].dpop", "issuers[1].issuer: \"http://id.example.com\" is there twice",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	s := newSigner(f, "one")
	i := newIssuer(f, s)
	v := i.verifier(f, func(c *oauth.Config) { c.MinInterval = time.Hour })
	now := time.Now()
	fine := s.sign(f, part(f, object{"alg": "ES256", "kid": "one"}), part(f, i.claims(now)))
	f.Add(`{"alg":"ES256","kid":"one"}`, `{"iss":"`+i.URL+`","sub":"a","aud":["`+resource+`"],"exp":4102444800}`)
	f.Add(`{"alg":"none"}`, `{}`)
	f.Add(`{"alg":"ES256"}`, `{"cnf":{"x5t#S256":"AA"},"roles":"a b","scope":["x"]}`)
	if got, err := v.Verify(context.Background(), fine, now, nil); err != nil || got.Identity == nil {
		f.Fatalf("got %+v, %v", got, err)
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		got, err := v.Verify(t.Context(), header+"."+payload, now, nil)
		if err != nil || got.Identity != nil {
			t.Errorf("without a signature: got %+v, %v", got, err)
		}
		// Whatever the issuer signs, the principal keeps to its contract.
		got, err = v.Verify(t.Context(), s.sign(t, encode([]byte(header)), encode([]byte(payload))), now, nil)
		if err != nil || got.Identity == nil {
			return
		}
		p := got.Identity.Principal
		if len(p.GetId()) > 256 || len(p.GetRoles()) > 32 || len([]rune(p.GetName())) > 128 || len(p.GetTenant()) > 63 || !now.Before(got.Identity.Expires) {
			t.Errorf("got %v", p)
		}
	})
}
