package oidctest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/pkg/oidctest"
)

const resource = "https://mcp.example.com/mcp"

// token asks for a token as the machine client.
func token(t *testing.T, p *oidctest.Provider, secret, proof string) (status int, kind string, got oidctest.Token) {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"mcp sql:read"}, "resource": {resource}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Issuer+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(oidctest.MachineClient, secret)
	if proof != "" {
		r.Header.Set("DPoP", proof)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		return resp.StatusCode, "", oidctest.Token{}
	}
	if got, err = p.Read(answer.Token); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer.Type, got
}

func TestTokensAreForWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	p := oidctest.New(t)
	want := oidctest.Token{
		Subject: oidctest.MachineClient, Client: oidctest.MachineClient, Audience: []string{resource}, Scopes: []string{"mcp", "sql:read"},
	}
	if _, kind, got := token(t, p, oidctest.MachineSecret, ""); kind != "Bearer" || !cmp.Equal(want, got) {
		t.Errorf("got a %s token (-want +got):\n%s", kind, cmp.Diff(want, got))
	}
	if status, _, _ := token(t, p, "wrong", ""); status == http.StatusOK {
		t.Error("a wrong secret is taken")
	}
	p.Audience("https://other.example")
	p.Last(-time.Minute)
	want.Audience, want.Over = []string{"https://other.example"}, true
	if _, _, got := token(t, p, oidctest.MachineSecret, ""); !cmp.Equal(want, got) {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
	}
	for _, r := range p.Requests() {
		if r.Path != "/oauth/token" || r.Form.Get("resource") != resource {
			t.Errorf("got a request %v", r)
		}
	}
}

func TestTokensAreBoundToTheKeyThatIsProved(t *testing.T) {
	t.Parallel()
	p := oidctest.New(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	proof, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if _, kind, got := token(t, p, oidctest.MachineSecret, proof); kind != "DPoP" || len(got.Thumbprint) != 43 {
		t.Errorf("got a %s token bound to %q", kind, got.Thumbprint)
	}
	if status, _, _ := token(t, p, oidctest.MachineSecret, "a.b.c"); status != http.StatusBadRequest {
		t.Errorf("got %d for what is no proof", status)
	}
}

// A browser is sent back with a code only where the client has made a challenge.
func TestPKCEIsNeeded(t *testing.T) {
	t.Parallel()
	p := oidctest.New(t)
	for _, challenge := range []string{"", "&code_challenge_method=S256&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"} {
		back, err := oidctest.Browse(t.Context(), p.Issuer+"/authorize?response_type=code&scope=mcp&state=s&client_id="+oidctest.PublicClient+
			"&redirect_uri="+url.QueryEscape("http://127.0.0.1:9/callback")+challenge)
		if err != nil {
			t.Fatal(err)
		}
		if got := back.Query(); got.Get("state") != "s" || got.Has("code") != (challenge != "") || got.Has("error") != (challenge == "") {
			t.Errorf("challenge %q: got %s", challenge, back)
		}
	}
}
