package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport-mcp/sallyport/pkg/oidctest"
)

// holder has a key, and a token of a provider that is bound to it.
type holder struct {
	token  string
	signer jose.Signer
}

// prove makes a new proof for a request (RFC 9449).
func (h *holder) prove(t *testing.T, method, address string) string {
	t.Helper()
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": address, "iat": time.Now().Unix()}
	if h.token != "" {
		sum := sha256.Sum256([]byte(h.token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := h.signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

func newHolder(t *testing.T, provider *oidctest.Provider, resource string) *holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{}
	h.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"mcp"}, "resource": {resource}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, provider.Issuer+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("DPoP", h.prove(t, http.MethodPost, provider.Issuer+"/oauth/token"))
	r.SetBasicAuth(oidctest.MachineClient, oidctest.MachineSecret)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatalf("no token: %s, %v", resp.Status, err)
	}
	h.token = answer.Token
	return h
}

// request is a modern request with a proof.
func (h *holder) request(t *testing.T, address, method, params, proof string) *http.Request {
	t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`, method, params)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28",
		"Mcp-Method": method, "Authorization": "DPoP " + h.token, "DPoP": proof,
	} {
		r.Header.Set(name, value)
	}
	return r
}

// A token that is bound to a key is good with a new proof for each request. A
// stream is one request, and hears of changes long after its proof was used.
func TestStreamsWithProofs(t *testing.T) {
	t.Parallel()
	provider := oidctest.New(t)
	const resource = "https://gate.example.com/mcp"
	file := filepath.Join(t.TempDir(), "oauth.yaml")
	config := fmt.Sprintf(`roles:
  quota: {rules: []}
  auth:
    oauth:
      resource: %s
      issuers: [{issuer: %q, default_roles: [analyst], dpop: required}]
`, resource, provider.Issuer)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	i, _ := dev(t, t.TempDir(), "--config", file)
	h := newHolder(t, provider, resource)

	do := func(r *http.Request) *http.Response {
		t.Helper()
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	proof := h.prove(t, http.MethodPost, i.MCPURL)
	if resp := do(h.request(t, i.MCPURL, "server/discover", "", proof)); resp.StatusCode != http.StatusOK {
		t.Fatalf("with a new proof: got %s", resp.Status)
	}
	for name, proof := range map[string]string{
		"the same proof again": proof, "a proof for another address": h.prove(t, http.MethodPost, resource), "a proof for GET": h.prove(t, http.MethodGet, i.MCPURL),
	} {
		if resp := do(h.request(t, i.MCPURL, "server/discover", "", proof)); resp.StatusCode != http.StatusUnauthorized ||
			!strings.Contains(resp.Header.Get("WWW-Authenticate"), `error="invalid_dpop_proof"`) {
			t.Errorf("with %s: got %s %s", name, resp.Status, resp.Header.Get("WWW-Authenticate"))
		}
	}

	stream := do(h.request(t, i.MCPURL, "subscriptions/listen", `"notifications":{"toolsListChanged":true},`, h.prove(t, http.MethodPost, i.MCPURL)))
	if stream.StatusCode != http.StatusOK {
		t.Fatalf("listen: got %s", stream.Status)
	}
	events := bufio.NewScanner(stream.Body)
	next := func() string {
		for events.Scan() {
			if text, ok := strings.CutPrefix(events.Text(), "data:"); ok && strings.TrimSpace(text) != "" {
				return text
			}
		}
		return "the end of the stream"
	}
	if got := next(); !strings.Contains(got, "acknowledged") {
		t.Fatalf("listen: got %s", got)
	}
	for n, policy := range []string{
		`@id("nobody") @reason("it is not for now") forbid (principal, action, resource == Tool::"echo");`,
		`@id("somebody") @reason("it is not for now") forbid (principal, action, resource == Tool::"add_numbers");`,
	} {
		base, err := os.ReadFile("../auth/policies/default.cedar")
		if err != nil {
			t.Fatal(err)
		}
		dir := folder(t, "default.cedar", string(base), "more.cedar", policy+"\n")
		if code, _, stderr := sallyport(t, i, "policy", "push", dir, "--yes"); code != exitOK {
			t.Fatalf("policy push: exit %d, %s", code, stderr)
		}
		if got := next(); !strings.Contains(got, "notifications/tools/list_changed") {
			t.Fatalf("after change %d of the policies: got %s, want the news", n+1, got)
		}
	}
}
