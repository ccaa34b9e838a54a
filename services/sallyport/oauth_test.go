package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A client without a token is told where to get one, and with one it is served, as
// the roles in it say.
func TestTokensOfAnIssuer(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{
			"kty": "EC", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:]),
		}}})
	}))
	t.Cleanup(issuer.Close)
	const resource = "https://gate.example.com/mcp"
	token := func(aud, role string) string {
		text := encode([]byte(`{"alg":"ES256","typ":"at+jwt"}`)) + "." + encode(fmt.Appendf(nil,
			`{"iss":%q,"sub":"anna","client_id":"c","aud":%q,"roles":[%q],"exp":%d}`, issuer.URL, aud, role, time.Now().Add(time.Hour).Unix()))
		sum := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		signature := make([]byte, 64)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return text + "." + encode(signature)
	}
	file := filepath.Join(t.TempDir(), "oauth.yaml")
	config := fmt.Sprintf(`roles:
  quota: {rules: []}
  edge: {public_url: "https://gate.example.com"}
  auth:
    oauth:
      resource: %s
      scopes_supported: [tools]
      challenge_scopes: [tools]
      issuers: [{issuer: %q, jwks_url: %q}]
`, resource, issuer.URL, issuer.URL+"/keys")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	i, _ := dev(t, t.TempDir(), "--config", file)
	origin := strings.TrimSuffix(i.MCPURL, "/mcp")
	const metadata = "/.well-known/oauth-protected-resource"
	for _, path := range []string{metadata, metadata + "/mcp"} {
		resp, err := http.Get(origin + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var m struct {
			Resource string
			Servers  []string `json:"authorization_servers"`
		}
		if err != nil || json.Unmarshal(text, &m) != nil || m.Resource != resource || len(m.Servers) != 1 || m.Servers[0] != issuer.URL {
			t.Errorf("%s: got %s %s", path, resp.Status, text)
		}
	}

	call := func(token, tool, arguments string) (int, string, string) {
		t.Helper()
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{
			"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},
			"io.modelcontextprotocol/clientCapabilities":{}}}}`, tool, arguments)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.MCPURL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Content-Type": "application/json", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool,
		} {
			req.Header.Set(name, value)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("WWW-Authenticate"), string(text)
	}
	code, challenge, _ := call("", "echo", `{"text":"a"}`)
	if code != http.StatusUnauthorized || !strings.Contains(challenge, `resource_metadata="https://gate.example.com`+metadata) || !strings.Contains(challenge, `scope="tools"`) || strings.Contains(challenge, "error=") {
		t.Errorf("without a token: got %d %s", code, challenge)
	}
	if code, challenge, _ := call(token("https://other.example.com", "analyst"), "echo", `{"text":"a"}`); code != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) {
		t.Errorf("with a token for another: got %d %s", code, challenge)
	}
	if code, _, text := call(token(resource, "analyst"), "echo", `{"text":"hello"}`); code != http.StatusOK || !strings.Contains(text, "hello") || strings.Contains(text, `"isError":true`) {
		t.Errorf("with a good token: got %d %s", code, text)
	}
	if _, _, text := call(token(resource, "intern"), "run_sql_query", `{"query":"SELECT 1"}`); !strings.Contains(text, "POLICY_DENIED") {
		t.Errorf("what the roles in it do not allow: got %s", text)
	}
	eventually(t, "the record says who it was", func() error {
		_, stdout, _ := sallyport(t, i, "audit", "tail", "-n", "100", "-o", "json")
		if !strings.Contains(stdout, "user:"+issuer.URL+"/anna") {
			return fmt.Errorf("%s", stdout)
		}
		return nil
	})
}
