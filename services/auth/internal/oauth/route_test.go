package oauth_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth"
)

// Each token is judged by one issuer, whatever it says, and nobody else hears of it.
func TestWhoIsAsked(t *testing.T) {
	t.Parallel()
	const (
		good      = auditv1.Reason_REASON_UNSPECIFIED
		malformed = auditv1.Reason_REASON_CREDENTIAL_MALFORMED
		unknown   = auditv1.Reason_REASON_CREDENTIAL_UNKNOWN
	)
	now := time.Now()
	ours := newSigner(t, "one")
	signing := newIssuer(t, ours) // verified by keys, and asked about what is not signed
	desks := map[string]*desk{}
	for _, name := range []string{"a", "b", "signing"} {
		desks[name] = newDesk(t, says(active(now, object{"iss": nil})))
	}
	named := func(iss string) string {
		return ours.sign(t, part(t, object{"alg": "ES256", "kid": "one"}), part(t, object{
			"iss": iss, "sub": "anna", "aud": resource, "exp": now.Add(time.Hour).Unix(),
		}))
	}
	issuers := func(c *oauth.Config, otherwise bool) {
		c.Issuers = nil
		for _, one := range []struct{ name, issuer, prefix, tokens string }{
			{"a", "https://a.example.com", "aa_", "opaque"},
			{"b", "https://b.example.com", "bb_", ""},
			{"signing", signing.URL, "", ""},
		} {
			i := desks[one.name].issuer()
			i.Issuer, i.Tokens, i.Introspection.TokenPrefix = one.issuer, one.tokens, one.prefix
			if one.name == "signing" && !otherwise {
				i.Introspection = nil
			}
			c.Issuers = append(c.Issuers, i)
		}
	}
	tests := []struct {
		name, token string
		otherwise   bool
		want        auditv1.Reason
		asked       string
	}{
		{"a prefix", "aa_x", true, good, "a"},
		{"another prefix", "bb_x", true, good, "b"},
		{"a prefix in capitals is none", "AA_x", true, good, "signing"},
		{"no prefix", "x.y", true, good, "signing"},
		{"three parts that are no JWT", "x.y.z", true, good, "signing"},
		{"an encrypted JWT, which nobody here can read", part(t, object{"alg": "dir"}) + ".a.b.c.d", true, good, "signing"},
		{"no prefix, and nobody for it", "x.y", false, malformed, ""},
		{"a signed one is not asked about", named(signing.URL), true, good, ""},
		{"a signed one with a bad signature neither", named(signing.URL) + "A", true, unknown, ""},
		{"a signed one of an issuer whose tokens are all opaque", named("https://a.example.com"), true, good, "a"},
		{"a signed one of a stranger", named("https://c.example.com"), true, unknown, ""},
		{"a signed one that names nobody", part(t, object{"alg": "none"}) + "." + part(t, object{}) + ".", true, malformed, ""},
		{"a signed one with a prefix goes by that", "aa_." + named(signing.URL), true, good, "a"},
		{"too long", "aa_" + strings.Repeat("x", 17<<10), true, malformed, ""},
		{"characters that tokens do not have", "aa_x&y", true, malformed, ""},
		{"a line break", "aa_x\n", true, malformed, ""},
		{"signs of equality in it", "aa_x=y", true, malformed, ""},
		{"nothing but signs of equality", "==", true, malformed, ""},
		{"nothing", "", true, malformed, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { // not in parallel: questions are counted
			v := desks["a"].verifier(t, func(c *oauth.Config) { issuers(c, tt.otherwise) })
			before := map[string]int{}
			for name, d := range desks {
				before[name] = d.questions()
			}
			got, err := v.Verify(t.Context(), tt.token, now, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Reason != tt.want {
				t.Errorf("got %v (%s), want %v", got.Reason, got.Why, tt.want)
			}
			for name, d := range desks {
				if n := d.questions() - before[name]; (n == 1) != (name == tt.asked) || n > 1 {
					t.Errorf("%d questions to %s, want %q to be asked", n, name, tt.asked)
				}
			}
		})
	}
}

func TestConfigOfIntrospection(t *testing.T) {
	t.Parallel()
	fine := func() *oauth.Introspection {
		return &oauth.Introspection{URL: "https://id.example.com/introspect", ClientID: "gate", ClientSecretFile: "secret"}
	}
	with := func(edit func(*oauth.Introspection)) *oauth.Introspection {
		n := fine()
		edit(n)
		return n
	}
	one := func(n *oauth.Introspection) []oauth.Issuer { return []oauth.Issuer{{Introspection: n}} }
	tests := []struct {
		name    string
		issuers []oauth.Issuer
		want    string // in the error; "": none
	}{
		{"a good one", one(fine()), ""},
		{"on this machine", one(with(func(n *oauth.Introspection) { n.URL = "http://127.0.0.1:8080/x" })), ""},
		{"two with one prefix", []oauth.Issuer{{Introspection: fine()}, {Introspection: with(func(n *oauth.Introspection) { n.TokenPrefix = "aa_" })}}, ""},
		{"all opaque", []oauth.Issuer{{Tokens: "opaque", Introspection: fine()}}, ""},

		{"no URL", one(with(func(n *oauth.Introspection) { n.URL = "" })), "issuers[0].introspection.url"},
		{"not https", one(with(func(n *oauth.Introspection) { n.URL = "http://id.example.com/x" })), "issuers[0].introspection.url"},
		{"a query", one(with(func(n *oauth.Introspection) { n.URL += "?x=y" })), "issuers[0].introspection.url"},
		{"no client", one(with(func(n *oauth.Introspection) { n.ClientID = "" })), "issuers[0].introspection.client_id"},
		{"no secret", one(with(func(n *oauth.Introspection) { n.ClientSecretFile = "" })), "issuers[0].introspection.client_secret_file"},
		{"another method", one(with(func(n *oauth.Introspection) { n.AuthMethod = "none" })), "issuers[0].introspection.auth_method"},
		{"a short prefix", one(with(func(n *oauth.Introspection) { n.TokenPrefix = "aa" })), "issuers[0].introspection.token_prefix"},
		{"a prefix of JWTs", one(with(func(n *oauth.Introspection) { n.TokenPrefix = "eyJ" })), "issuers[0].introspection.token_prefix"},
		{"a long cache", one(with(func(n *oauth.Introspection) { n.Cache = 61 * time.Second })), "issuers[0].introspection.cache"},
		{"a cache below nothing", one(with(func(n *oauth.Introspection) { n.Cache = -1 })), "issuers[0].introspection.cache"},
		{"a long timeout", one(with(func(n *oauth.Introspection) { n.Timeout = time.Minute })), "issuers[0].introspection.timeout"},
		{"two without prefix", []oauth.Issuer{{Introspection: fine()}, {Introspection: fine()}}, "issuers[1].introspection.token_prefix: missing"},
		{"one prefix twice", []oauth.Issuer{
			{Introspection: with(func(n *oauth.Introspection) { n.TokenPrefix = "aa_" })},
			{Introspection: with(func(n *oauth.Introspection) { n.TokenPrefix = "aa_" })},
		}, "issuers[1].introspection.token_prefix"},
		{"a prefix in a prefix", []oauth.Issuer{
			{Introspection: with(func(n *oauth.Introspection) { n.TokenPrefix = "aa_b" })},
			{Introspection: with(func(n *oauth.Introspection) { n.TokenPrefix = "aa_" })},
		}, "issuers[0].introspection.token_prefix"},
		{"another word for tokens", []oauth.Issuer{{Tokens: "jwt"}}, "issuers[0].tokens"},
		{"nobody to ask", []oauth.Issuer{{Tokens: "opaque"}}, "issuers[0].introspection"},
		{"keys for nothing", []oauth.Issuer{{Tokens: "opaque", Introspection: fine(), JWKSURL: "https://id.example.com/keys"}}, "issuers[0].jwks_url"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := oauth.DefaultConfig()
			c.Resource, c.Issuers = resource, tt.issuers
			for i := range c.Issuers {
				c.Issuers[i].Issuer = fmt.Sprintf("https://id%d.example.com", i)
			}
			err := c.Validate()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	c := oauth.DefaultConfig()
	c.Resource, c.Issuers = resource, []oauth.Issuer{{Issuer: deskName, Introspection: fine()}}
	c.Issuers[0].Introspection.ClientSecretFile = "/nowhere/secret"
	if _, err := oauth.New(c, nil); err == nil || !strings.Contains(err.Error(), "issuers[0].introspection.client_secret_file: ") {
		t.Errorf("a secret that is not there: got %v", err)
	}
}

// Whatever is shown, an issuer hears of nothing but tokens, and as they are.
func FuzzToken(f *testing.F) {
	now := time.Now()
	form := regexp.MustCompile(`\A[A-Za-z0-9._~+/-]+=*\z`) // RFC 6750
	d := newDesk(f, says(object{"active": false}))
	v := d.verifier(f, func(c *oauth.Config) { c.Issuers[0].Tokens = "" })
	header := part(f, object{"alg": "ES256"})
	for _, seed := range []string{"opaque", "a.b.c", header + ".e30.", header + "..", "x=y=", "==", "a\n", "ä", header + ".a.b.c.d", " e30.e30.e30", "e31..1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		before := d.questions()
		got, err := v.Verify(t.Context(), token, now, nil)
		if err != nil || got.Identity != nil {
			t.Fatalf("got %+v, %v", got, err)
		}
		if d.questions() == before {
			return
		}
		if asked := d.last().PostForm.Get("token"); asked != token || !form.MatchString(token) || len(token) > 16<<10 {
			t.Errorf("the issuer was asked about %q, and %q was shown", asked, token)
		}
		parts := strings.Split(token, ".")
		if text, err := base64.RawURLEncoding.DecodeString(parts[0]); err == nil && len(parts) == 3 && json.Valid(text) && text[0] == '{' {
			t.Errorf("the issuer was asked about %q, which is a JWT", token)
		}
	})
}
