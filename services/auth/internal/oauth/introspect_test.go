package oauth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth"
)

// Each answer makes the token a good one but for one thing.
func TestWhatIsSaidOfAToken(t *testing.T) {
	t.Parallel()
	const (
		good       = auditv1.Reason_REASON_UNSPECIFIED
		malformed  = auditv1.Reason_REASON_CREDENTIAL_MALFORMED
		unknown    = auditv1.Reason_REASON_CREDENTIAL_UNKNOWN
		expired    = auditv1.Reason_REASON_CREDENTIAL_EXPIRED
		restricted = auditv1.Reason_REASON_CREDENTIAL_RESTRICTED
	)
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	tests := []struct {
		name  string
		edits object
		want  auditv1.Reason
	}{
		{"a good one", nil, good},
		{"no issuer, for it is the one that was asked", object{"iss": nil}, good},
		{"no type", object{"token_type": nil}, good},
		{"a client for itself", object{"sub": nil, "username": nil}, good},
		{"a type in small letters", object{"token_type": "bearer"}, good},
		{"what it is used for", object{"token_use": "access_token", "typ": "Bearer"}, good},
		{"an audience among others", object{"aud": []string{"https://a.example", resource}}, good},
		{"a clock that is a little ahead", object{"iat": at(20 * time.Second), "nbf": at(20 * time.Second)}, good},
		{"bound to a key, and said to be", object{"token_type": "DPoP", "cnf": object{"jkt": "x"}}, good},

		{"not active", object{"active": false}, unknown},
		{"another issuer", object{"iss": "https://other.example.com"}, restricted},
		{"an issuer with a slash", object{"iss": deskName + "/"}, restricted},
		{"an issuer that is a list", object{"iss": []string{deskName}}, restricted},
		{"no audience", object{"aud": nil}, restricted},
		{"another audience", object{"aud": "https://other.example.com/mcp"}, restricted},
		{"an audience that goes on after ours", object{"aud": resource + "/admin"}, restricted},
		{"an audience that is a number", object{"aud": 7}, malformed},
		{"no expiry", object{"exp": nil}, malformed},
		{"an expiry in words", object{"exp": "4102444800"}, malformed},
		{"expired", object{"exp": at(-time.Minute)}, expired},
		{"not yet valid", object{"nbf": at(time.Minute)}, restricted},
		{"issued in the future", object{"iat": at(time.Minute)}, restricted},
		{"a refresh token by its type", object{"token_type": "refresh_token"}, restricted},
		{"a refresh token by its use", object{"token_use": "refresh_token"}, restricted},
		{"a refresh token by another word", object{"typ": "Refresh"}, restricted},
		{"an ID token", object{"typ": "ID"}, restricted},
		{"a type that is a number", object{"token_type": 1}, restricted},
		{"needs a proof, and its key is not told", object{"token_type": "DPoP"}, restricted},
		{"bound in a new way", object{"cnf": object{"new": "x"}}, restricted},
		{"bound to nothing", object{"cnf": object{}}, restricted},
		{"a scope that is a number", object{"scope": 1}, malformed},
		{"a user without a subject", object{"sub": nil}, restricted},
		{"nobody", object{"sub": nil, "username": nil, "client_id": nil}, restricted},
		{"a subject that does not print", object{"sub": "a\nb"}, restricted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := newDesk(t, says(active(now, tt.edits))).verifier(t, nil).Verify(t.Context(), "opaque", now, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Reason != tt.want || (got.Identity != nil) != (tt.want == good) {
				t.Errorf("got %v (%s), want %v", got.Reason, got.Why, tt.want)
			}
		})
	}
}

// Of an answer that is none it is not known what it means: not that the token is bad,
// and never that it is good.
func TestBadAnswersAboutTokens(t *testing.T) {
	t.Parallel()
	now := time.Now()
	text := func(edits object) string {
		b, err := json.Marshal(active(now, edits))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	elsewhere := newDesk(t, says(active(now, nil)))
	fine := text(nil)
	const kind = "application/json"
	tests := []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"active in words", writes(kind, text(object{"active": "true"}))},
		{"active as a number", writes(kind, text(object{"active": 1}))},
		{"active is null", writes(kind, strings.Replace(fine, `"active":true`, `"active":null`, 1))},
		{"no word whether it is active", writes(kind, text(object{"active": nil}))},
		{"a member twice", writes(kind, strings.Replace(fine, `{`, `{"active":false,`, 1))},
		{"a member twice, deep in it", writes(kind, text(object{"x": json.RawMessage(`{"a":1,"a":2}`)}))},
		{"more after it", writes(kind, fine+`{}`)},
		{"a list", writes(kind, `[`+fine+`]`)},
		{"cut off", writes(kind, fine[:len(fine)-1])},
		{"nothing", writes(kind, "")},
		{"more than there can be", writes(kind, fine+strings.Repeat(" ", 70<<10))},
		{"a page", writes("text/html", fine)},
		{"of no type", writes("", fine)},
		{"a signed answer, which was not asked for", writes("application/token-introspection+jwt", "e30.e30.e30")},
		{"a signed answer that is said to be JSON", writes(kind, "e30.e30.e30")},
		{"another status", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(http.StatusAccepted)
			writes(kind, fine)(w, r)
		}},
		{"an error of the issuer", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, fine, http.StatusInternalServerError) }},
		{"that it does not know us", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, fine, http.StatusUnauthorized) }},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}},
		{"no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, tt.answer)
			v := d.verifier(t, nil)
			if got, err := v.Verify(t.Context(), "opaque", now, nil); !errors.Is(err, oauth.ErrNotReady) {
				t.Fatalf("got %+v, %v, want %v", got, err, oauth.ErrNotReady)
			}
			d.from(says(active(now, nil))) // and it is not remembered
			if got, err := v.Verify(t.Context(), "opaque", now, nil); err != nil || got.Identity == nil {
				t.Errorf("after that: got %+v, %v", got, err)
			}
		})
	}
	t.Cleanup(func() {
		if n := elsewhere.questions(); n > 0 {
			t.Errorf("%d questions to another place", n)
		}
	})
}

// An issuer that takes too long has not answered; one that is not there neither.
func TestIssuerThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	held := make(chan struct{})
	d := newDesk(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-held:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(held) })
	v := d.verifier(t, func(c *oauth.Config) { c.Issuers[0].Introspection.Timeout = 100 * time.Millisecond })
	if got, err := v.Verify(t.Context(), "opaque", time.Now(), nil); !errors.Is(err, oauth.ErrNotReady) {
		t.Errorf("slow: got %+v, %v", got, err)
	}
	gone := newDesk(t, says(object{"active": true}))
	gone.Close()
	if got, err := gone.verifier(t, nil).Verify(t.Context(), "opaque", time.Now(), nil); !errors.Is(err, oauth.ErrNotReady) {
		t.Errorf("away: got %+v, %v", got, err)
	}
}

func TestHowAnIssuerIsAsked(t *testing.T) {
	t.Parallel()
	const token = "a~b.c+d/e_f-1=="
	for _, method := range []string{"", "client_secret_basic", "client_secret_post"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, nil)
			d.from(func(w http.ResponseWriter, r *http.Request) {
				http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
				says(active(time.Now(), nil))(w, r)
			})
			v := d.verifier(t, func(c *oauth.Config) { c.Issuers[0].Introspection.AuthMethod = method })
			for _, secret := range []string{deskSecret, "another one"} {
				d.write(t, secret+"\n") // whoever replaces it tells nobody
				if got, err := v.Verify(t.Context(), secret[:1]+token, time.Now(), nil); err != nil || got.Identity == nil {
					t.Fatalf("got %+v, %v", got, err)
				}
				r := d.last()
				want := url.Values{"token": {secret[:1] + token}, "token_type_hint": {"access_token"}}
				id, password, basic := r.BasicAuth()
				if method == "client_secret_post" {
					want["client_id"], want["client_secret"] = []string{deskClient}, []string{secret}
				} else if id != url.QueryEscape(deskClient) || password != url.QueryEscape(secret) {
					t.Errorf("got client %q and secret %q", id, password)
				}
				if diff := cmp.Diff(want, r.PostForm); diff != "" || basic == (method == "client_secret_post") {
					t.Errorf("with a header: %v (-want +got):\n%s", basic, diff)
				}
				if r.Method != http.MethodPost || r.URL.String() != "/introspect" || r.Header.Get("Accept") != "application/json" ||
					r.Header.Get("Cookie") != "" || len(r.Header["Idempotency-Key"]) > 0 {
					t.Errorf("got %s %s %v", r.Method, r.URL, r.Header)
				}
			}
		})
	}
}

// What an issuer answers makes the same principal as what it signs.
func TestPrincipalOfAnAnswer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := newDesk(t, says(active(now, object{"realm": object{"groups": []string{"Data"}}, "org": "acme"})))
	v := d.verifier(t, func(c *oauth.Config) {
		c.ScopeImplies = map[string][]string{"sql:run": {"sql:read"}}
		i := &c.Issuers[0]
		i.Claims, i.RoleMap = oauth.Claims{Roles: "realm.groups", Tenant: "org", Name: "username"}, map[string][]string{"Data": {"analyst"}}
		i.DPoP = "required"
	})
	got, err := v.Verify(t.Context(), "opaque", now, nil)
	if err != nil || got.Identity == nil {
		t.Fatalf("got %+v, %v", got, err)
	}
	want := &authv1.Principal{
		Id: "user:" + deskName + "/anna", Name: "anna", Owner: "anna@example.com", Tenant: "acme", Roles: []string{"analyst"},
		CredentialId: got.Identity.Principal.GetCredentialId(),
	}
	if diff := cmp.Diff(want, got.Identity.Principal, protocmp.Transform()); diff != "" {
		t.Errorf("principal (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]bool{"tools:read": true, "sql:run": true, "sql:read": true}, got.Identity.Scopes); diff != "" {
		t.Errorf("scopes (-want +got):\n%s", diff)
	}
	if !got.Identity.NeedsKey {
		t.Error("no proof is needed where the issuer's tokens all need one")
	}
}

func FuzzAnswer(f *testing.F) {
	now := time.Now()
	fine, err := json.Marshal(active(now, nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("application/json", string(fine))
	f.Add("application/json;charset=UTF-8", `{"active":false}`)
	f.Add("application/json", `{"active":true,"aud":["`+resource+`"],"exp":4102444800,"sub":"a","cnf":{"jkt":"x"},"roles":"a b","scp":["x"]}`)
	f.Add("text/html", `{"active":true,"active":1}`)
	d := newDesk(f, nil)
	v, shown := d.verifier(f, nil), 0
	f.Fuzz(func(t *testing.T, kind, answer string) {
		if strings.ContainsFunc(kind, func(c rune) bool { return c < ' ' || c > '~' }) {
			return // no header could have it
		}
		d.from(writes(kind, answer))
		shown++ // another token, of which nothing is remembered
		got, err := v.Verify(t.Context(), fmt.Sprint("opaque", shown), now, nil)
		if err != nil || got.Identity == nil {
			return
		}
		p := got.Identity.Principal
		if len(p.GetId()) > 256 || len(p.GetRoles()) > 32 || len([]rune(p.GetName())) > 128 || len(p.GetTenant()) > 63 ||
			!now.Before(got.Identity.Expires) || got.Identity.Expires.After(now.Add(10*time.Second)) {
			t.Errorf("got %v until %v", p, got.Identity.Expires)
		}
		// Another reader takes it for the same.
		var lenient map[string]any
		if json.Unmarshal([]byte(answer), &lenient) != nil || lenient["active"] != true {
			t.Errorf("a token is good by %q", answer)
		}
	})
}
