package main

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// pair is a client's key pair in files.
type pair struct {
	key             *ecdsa.PrivateKey
	private, public string // files
	thumbprint      string
}

func newPair(t *testing.T) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := pair{key: key}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, text []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: text}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	p.private, p.public = write("key.pem", "PRIVATE KEY", private), write("public.pem", "PUBLIC KEY", public)
	sum, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	p.thumbprint = base64.RawURLEncoding.EncodeToString(sum)
	return p
}

// holder makes proofs for an API key by a library that is not ours.
func (p pair) holder(t *testing.T, secret string) *holder {
	t.Helper()
	h := &holder{token: strings.TrimSpace(secret)}
	var err error
	if h.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt")); err != nil {
		t.Fatal(err)
	}
	return h
}

// An operator binds an API key to a client's key. From then on the API key alone is
// good for nothing, through its rotation and to its end, and each proof is good once.
func TestKeysThatNeedProofs(t *testing.T) {
	t.Parallel()
	i, _ := dev(t, t.TempDir())
	client, thief := newPair(t), newPair(t)
	refuse := func(want int, say string, args ...string) {
		t.Helper()
		if code, stdout, stderr := sallyport(t, i, args...); code != want || !strings.Contains(stderr, say) {
			t.Errorf("%q: got exit %d, %s%s; want %d and %q", args, code, stdout, stderr, want, say)
		}
	}
	refuse(exitUsage, "private key", "key", "create", "ci", "--role", "analyst", "--proof-key", client.private)
	refuse(exitUsage, "no such file", "key", "create", "ci", "--role", "analyst", "--proof-key", client.private+"x")
	refuse(exitUsage, "exclude", "key", "create", "ci", "--role", "analyst", "--proof-key", client.public, "--proof-thumbprint", client.thumbprint)
	refuse(exitUsage, "43 characters", "key", "create", "ci", "--role", "analyst", "--proof-thumbprint", client.thumbprint[:40])
	if code, said, stderr := sallyport(t, i, "key", "create", "other", "--role", "analyst", "--proof-thumbprint", thief.thumbprint, "--json"); code != exitOK || !strings.Contains(said, thief.thumbprint) {
		t.Errorf("create by thumbprint: got exit %d, %s%s", code, said, stderr)
	}
	code, secret, note := sallyport(t, i, "key", "create", "ci", "--role", "analyst", "--proof-key", client.public)
	if code != exitOK || !strings.Contains(note, client.thumbprint) {
		t.Fatalf("create: got exit %d, %q", code, note)
	}
	if _, listed, _ := sallyport(t, i, "key", "list"); !strings.Contains(listed, "PROOF KEY") || !strings.Contains(listed, client.thumbprint) {
		t.Errorf("list does not show what the key is bound to:\n%s", listed)
	}
	var keys []map[string]any
	if _, listed, _ := sallyport(t, i, "key", "list", "--json"); json.Unmarshal([]byte(listed), &keys) != nil || len(keys) == 0 || keys[len(keys)-1]["proof_thumbprint"] != client.thumbprint {
		t.Errorf("list --json: got %s", listed)
	}

	file := filepath.Join(t.TempDir(), "ci.key")
	keep := func(secret string) {
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep(secret)
	refuse(exitForbidden, "name its file with --proof-key", "call", "echo", "text=x", "--key-file", file)
	refuse(exitForbidden, "another key", "call", "echo", "text=x", "--key-file", file, "--proof-key", thief.private)
	refuse(exitForbidden, "bound to none", "call", "echo", "text=x", "--as", "analyst", "--proof-key", client.private)
	refuse(exitUsage, "private key for proofs", "call", "echo", "text=x", "--key-file", file, "--proof-key", client.public)
	for _, args := range [][]string{{"call", "echo", "text=x"}, {"tool", "list"}} {
		if code, stdout, stderr := sallyport(t, i, append(args, "--key-file", file, "--proof-key", client.private)...); code != exitOK {
			t.Errorf("%q with proofs: got exit %d, %s%s", args, code, stdout, stderr)
		}
	}

	h := client.holder(t, secret)
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
	other := &holder{token: i.Keys["analyst"], signer: h.signer}
	bad := func(name, problem string, r *http.Request) {
		t.Helper()
		resp := do(r)
		_, dpop, _ := strings.Cut(resp.Header.Get("WWW-Authenticate"), ", DPoP ")
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(dpop, `error="`+problem+`"`) || !strings.Contains(dpop, "ES256") {
			t.Errorf("%s: got %s %s, want DPoP with the error %s", name, resp.Status, resp.Header.Get("WWW-Authenticate"), problem)
		}
	}
	bad("the same proof again", "invalid_dpop_proof", h.request(t, i.MCPURL, "server/discover", "", proof))
	bad("a proof for GET", "invalid_dpop_proof", h.request(t, i.MCPURL, "server/discover", "", h.prove(t, http.MethodGet, i.MCPURL)))
	bad("a proof for another address", "invalid_dpop_proof", h.request(t, i.MCPURL, "server/discover", "", h.prove(t, http.MethodPost, "https://gate.example.com/mcp")))
	bad("a proof for another API key", "invalid_dpop_proof", h.request(t, i.MCPURL, "server/discover", "", other.prove(t, http.MethodPost, i.MCPURL)))
	bad("a proof of another key", "invalid_dpop_proof", h.request(t, i.MCPURL, "server/discover", "", thief.holder(t, secret).prove(t, http.MethodPost, i.MCPURL)))
	for name, value := range map[string]string{"Authorization": "Bearer " + h.token, "X-API-Key": h.token} {
		r := h.request(t, i.MCPURL, "server/discover", "", h.prove(t, http.MethodPost, i.MCPURL))
		r.Header.Del("Authorization")
		r.Header.Set(name, value)
		bad("sent as "+name, "invalid_token", r)
	}

	// A stream is one request. It hears of changes long after its proof was used, and
	// ends when the key does.
	code, again, _ := sallyport(t, i, "key", "rotate", "ci", "--overlap", "1h")
	keep(again)
	if code != exitOK {
		t.Fatalf("rotate: got exit %d", code)
	}
	refuse(exitForbidden, "--proof-key", "call", "echo", "text=x", "--key-file", file)
	h = client.holder(t, again)
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
	base, err := os.ReadFile("../auth/policies/default.cedar")
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t, "default.cedar", string(base), "more.cedar", `@id("nobody") @reason("it is not for now") forbid (principal, action, resource == Tool::"echo");`+"\n")
	if code, _, stderr := sallyport(t, i, "policy", "push", dir, "--yes"); code != exitOK {
		t.Fatalf("policy push: exit %d, %s", code, stderr)
	}
	if got := next(); !strings.Contains(got, "notifications/tools/list_changed") {
		t.Fatalf("after a change of the policies: got %s, want the news", got)
	}
	if code, _, stderr := sallyport(t, i, "key", "revoke", "ci"); code != exitOK {
		t.Fatalf("revoke: exit %d, %s", code, stderr)
	}
	for next() != "the end of the stream" {
		continue // until then
	}
}
