package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/oidctest"
)

// opaqueWorld is a system that takes the opaque tokens of a provider.
type opaqueWorld struct {
	provider *oidctest.Provider
	resource string
	url      string // of the MCP endpoint
}

// form asks the provider for something as a client; an empty secret is that of a
// client without one.
func (w *opaqueWorld) form(t *testing.T, path, client, secret string, form url.Values) map[string]any {
	t.Helper()
	if secret == "" {
		form.Set("client_id", client)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.provider.Issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if secret != "" {
		r.SetBasicAuth(client, secret)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&answer) // a token that is revoked is answered with nothing
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", path, resp.Status, answer)
	}
	return answer
}

// machine is a token of a client for itself.
func (w *opaqueWorld) machine(t *testing.T, scope string) string {
	t.Helper()
	answer := w.form(t, "/oauth/token", oidctest.MachineClient, oidctest.MachineSecret,
		url.Values{"grant_type": {"client_credentials"}, "scope": {scope}, "resource": {w.resource}})
	return fmt.Sprint(answer["access_token"])
}

// person is a token of a client for somebody who has logged in (RFC 7636, appendix B).
func (w *opaqueWorld) person(t *testing.T, scope string) string {
	t.Helper()
	const redirect = "http://127.0.0.1:9/callback"
	asked := url.Values{
		"response_type": {"code"}, "client_id": {oidctest.PublicClient}, "redirect_uri": {redirect}, "scope": {scope}, "state": {"s"},
		"code_challenge_method": {"S256"}, "code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "resource": {w.resource},
	}
	back, err := oidctest.Browse(t.Context(), w.provider.Issuer+"/authorize?"+asked.Encode())
	if err != nil {
		t.Fatal(err)
	}
	answer := w.form(t, "/oauth/token", oidctest.PublicClient, "", url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {redirect},
		"code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}, "resource": {w.resource},
	})
	return fmt.Sprint(answer["access_token"])
}

// call calls a tool with a token.
func (w *opaqueWorld) call(t *testing.T, token, tool, arguments string) (code int, challenge, text string) {
	t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{
		"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},
		"io.modelcontextprotocol/clientCapabilities":{}}}}`, tool, arguments)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28",
		"Mcp-Method": "tools/call", "Mcp-Name": tool, "Authorization": "Bearer " + token,
	} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("WWW-Authenticate"), string(answer)
}

// A token that says nothing by itself is as good as what its issuer says of it, for as
// long as it says so.
func TestOpaqueTokens(t *testing.T) {
	t.Parallel()
	w := &opaqueWorld{provider: oidctest.New(t), resource: "https://gate.example.com/mcp"}
	w.provider.Opaque()
	w.provider.Claims(map[string]any{"groups": []string{"Data"}})
	dir := t.TempDir()
	secret, file := filepath.Join(dir, "secret"), filepath.Join(dir, "oauth.yaml")
	config := fmt.Sprintf(`roles:
  quota: {rules: []}
  edge: {public_url: "https://gate.example.com"}
  auth:
    oauth:
      resource: %s
      challenge_scopes: [mcp]
      issuers:
        - issuer: %q
          tokens: opaque
          claims: {roles: groups}
          role_map: {Data: [analyst]}
          introspection:
            url: %q
            client_id: %s
            client_secret_file: %s
            cache: 1s
            timeout: 10s
`, w.resource, w.provider.Issuer, w.provider.Issuer+oidctest.IntrospectionPath, oidctest.ResourceServer, secret)
	for name, text := range map[string]string{file: config, secret: oidctest.ResourceSecret + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	i, _ := dev(t, t.TempDir(), "--config", file)
	w.url = i.MCPURL

	person, machine := w.person(t, "mcp"), w.machine(t, "mcp")
	for _, token := range []string{person, machine} {
		if code, challenge, text := w.call(t, token, "echo", `{"text":"hello"}`); code != http.StatusOK || !strings.Contains(text, "hello") || strings.Contains(text, `"isError":true`) {
			t.Fatalf("a good token: got %d %s %s", code, challenge, text)
		}
		code, challenge, text := w.call(t, token, "get_customer", `{"customer_id":1}`)
		if code != http.StatusForbidden || !strings.Contains(challenge, `error="insufficient_scope"`) || !strings.Contains(challenge, `scope="customers:read"`) {
			t.Errorf("a tool that needs more: got %d %s %s", code, challenge, text)
		}
	}
	for _, token := range []string{w.person(t, "mcp customers:read"), w.machine(t, "mcp customers:read")} {
		if code, challenge, text := w.call(t, token, "get_customer", `{"customer_id":1}`); code != http.StatusOK || strings.Contains(text, `"isError":true`) {
			t.Errorf("with a wider token: got %d %s %s", code, challenge, text)
		}
	}
	if _, _, text := w.call(t, machine, "delete_customer_account", `{"customer_id":1,"reason":"x"}`); !strings.Contains(text, "POLICY_DENIED") {
		t.Errorf("what the roles do not allow: got %s", text)
	}
	for _, id := range []string{"user:" + w.provider.Issuer + "/" + oidctest.Subject, "client:" + w.provider.Issuer + "/" + oidctest.MachineClient} {
		eventually(t, "the record says who it was", func() error {
			_, stdout, _ := sallyport(t, i, "audit", "tail", "-n", "100", "-o", "json")
			if !strings.Contains(stdout, id) || strings.Contains(stdout, person) || strings.Contains(stdout, machine) {
				return fmt.Errorf("no %s, or a token, in %s", id, stdout)
			}
			return nil
		})
	}

	refused := func(what, token string) {
		t.Helper()
		if code, challenge, text := w.call(t, token, "echo", `{"text":"hello"}`); code != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) {
			t.Errorf("%s: got %d %s %s", what, code, challenge, text)
		}
	}
	refused("a token that nobody has issued", "x"+machine)
	w.provider.Audience("https://other.example.com/mcp")
	refused("a token for another resource", w.machine(t, "mcp"))
	w.provider.Audience("")

	w.form(t, oidctest.RevocationPath, oidctest.MachineClient, oidctest.MachineSecret, url.Values{"token": {machine}})
	eventually(t, "a revoked token is refused", func() error {
		if code, _, text := w.call(t, machine, "echo", `{"text":"hello"}`); code != http.StatusUnauthorized {
			return fmt.Errorf("got %d %s", code, text)
		}
		return nil
	})

	// Whether a token is good cannot be told while the issuer does not know this server.
	if err := os.WriteFile(secret, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := w.machine(t, "mcp")
	if code, _, text := w.call(t, fresh, "echo", `{"text":"hello"}`); code != http.StatusServiceUnavailable {
		t.Errorf("with a wrong secret: got %d %s", code, text)
	}
	if err := os.WriteFile(secret, []byte(oidctest.ResourceSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, text := w.call(t, fresh, "echo", `{"text":"hello"}`); code != http.StatusOK {
		t.Errorf("with the right one again: got %d %s", code, text)
	}
}

// A bound token that is opaque needs a proof of its key like any other.
func TestOpaqueTokensWithProofs(t *testing.T) {
	t.Parallel()
	provider := oidctest.New(t)
	provider.Opaque()
	const resource = "https://gate.example.com/mcp"
	dir := t.TempDir()
	secret, file := filepath.Join(dir, "secret"), filepath.Join(dir, "oauth.yaml")
	config := fmt.Sprintf(`roles:
  quota: {rules: []}
  auth:
    oauth:
      resource: %s
      issuers:
        - issuer: %q
          default_roles: [analyst]
          dpop: optional
          introspection: {url: %q, client_id: %s, client_secret_file: %s, timeout: 10s}
`, resource, provider.Issuer, provider.Issuer+oidctest.IntrospectionPath, oidctest.ResourceServer, secret)
	for name, text := range map[string]string{file: config, secret: oidctest.ResourceSecret} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	i, _ := dev(t, t.TempDir(), "--config", file)
	h, thief := newHolder(t, provider, resource), newHolder(t, provider, resource)
	thief.token = h.token
	stolen := h.request(t, i.MCPURL, "server/discover", "", "")
	stolen.Header.Set("Authorization", "Bearer "+h.token)
	stolen.Header.Del("DPoP")
	for _, tt := range []struct {
		name string
		r    *http.Request
		want int
	}{
		{"with a proof", h.request(t, i.MCPURL, "server/discover", "", h.prove(t, http.MethodPost, i.MCPURL)), http.StatusOK},
		{"with a proof of another key", h.request(t, i.MCPURL, "server/discover", "", thief.prove(t, http.MethodPost, i.MCPURL)), http.StatusUnauthorized},
		{"without", stolen, http.StatusUnauthorized},
	} {
		resp, err := http.DefaultClient.Do(tt.r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s: got %s", tt.name, resp.Status)
		}
	}
}
