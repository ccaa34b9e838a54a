package oidctest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/pkg/oidctest"
)

// post sends a form to the provider as a client, and returns the object that it answers.
func post(t *testing.T, p *oidctest.Provider, path, client, secret string, form url.Values) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(client), url.QueryEscape(secret))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&answer) // what is no object is none
	return resp.StatusCode, answer
}

func TestOpaqueTokens(t *testing.T) {
	t.Parallel()
	p := oidctest.New(t)
	p.Opaque()
	p.Claims(map[string]any{"roles": []string{"analyst"}})
	_, got := post(t, p, "/oauth/token", oidctest.MachineClient, oidctest.MachineSecret,
		url.Values{"grant_type": {"client_credentials"}, "scope": {"mcp sql:read"}, "resource": {resource}})
	token, ok := got["access_token"].(string)
	if _, err := p.Read(token); !ok || err == nil {
		t.Fatalf("got %v, want a token that is no JWT", got)
	}
	asked := url.Values{"token": {token}}
	status, got := post(t, p, oidctest.IntrospectionPath, oidctest.ResourceServer, oidctest.ResourceSecret, asked)
	end, _ := got["exp"].(float64)
	if left := time.Until(time.Unix(int64(end), 0)); left < 50*time.Minute || left > time.Hour {
		t.Errorf("it ends in %v, want an hour", left)
	}
	for _, name := range []string{"exp", "iat", "jti"} {
		delete(got, name)
	}
	want := map[string]any{
		"active": true, "iss": p.Issuer, "sub": oidctest.MachineClient, "client_id": oidctest.MachineClient, "aud": resource,
		"scope": "mcp sql:read", "token_type": "Bearer", "roles": []any{"analyst"},
	}
	if list, ok := got["aud"].([]any); ok && len(list) == 1 {
		got["aud"] = list[0]
	}
	if diff := cmp.Diff(want, got); status != http.StatusOK || diff != "" {
		t.Errorf("got %d (-want +got):\n%s", status, diff)
	}
	for _, r := range p.Requests() {
		if r.Path == oidctest.IntrospectionPath && r.Form.Get("token") != token {
			t.Errorf("got a request %v", r)
		}
	}

	inactive := map[string]any{"active": false}
	if _, got := post(t, p, oidctest.IntrospectionPath, oidctest.MachineClient, oidctest.MachineSecret, asked); !cmp.Equal(inactive, got) {
		t.Errorf("a client that is no resource server is told %v", got)
	}
	if status, got := post(t, p, oidctest.IntrospectionPath, oidctest.ResourceServer, "wrong", asked); status != http.StatusUnauthorized {
		t.Errorf("with a wrong secret: got %d %v", status, got)
	}
	if status, got := post(t, p, oidctest.RevocationPath, oidctest.ResourceServer, oidctest.ResourceSecret, asked); status != http.StatusOK {
		t.Errorf("revoked by another client: got %d %v", status, got)
	}
	if _, got := post(t, p, oidctest.IntrospectionPath, oidctest.ResourceServer, oidctest.ResourceSecret, asked); got["active"] != true {
		t.Error("a client has revoked a token of another")
	}
	if status, got := post(t, p, oidctest.RevocationPath, oidctest.MachineClient, oidctest.MachineSecret, asked); status != http.StatusOK {
		t.Errorf("revoked: got %d %v", status, got)
	}
	if _, got := post(t, p, oidctest.IntrospectionPath, oidctest.ResourceServer, oidctest.ResourceSecret, asked); !cmp.Equal(inactive, got) {
		t.Errorf("of a token that is revoked it tells %v", got)
	}
}
