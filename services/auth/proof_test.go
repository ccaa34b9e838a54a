package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// prover is a client with a key of its own.
type prover struct {
	key        *ecdsa.PrivateKey
	jwk        map[string]string
	thumbprint string
}

func newProver(t *testing.T) prover {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	x, y := encode(point[1:33]), encode(point[33:])
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, x, y)) // RFC 7638
	return prover{key, map[string]string{"kty": "EC", "crv": "P-256", "x": x, "y": y}, encode(sum[:])}
}

// prove makes a proof for a request to the server, with other claims where edited.
func (p prover) prove(t *testing.T, token string, edits map[string]any) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	hash := sha256.Sum256([]byte(token))
	claims := map[string]any{
		"htm": "POST", "htu": "https://gate.example.com/mcp", "iat": time.Now().Unix(), "jti": rand.Text(), "ath": encode(hash[:]),
	}
	maps.Copy(claims, edits)
	header, err := json.Marshal(map[string]any{"alg": "ES256", "typ": "dpop+jwt", "jwk": p.jwk})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := encode(header) + "." + encode(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature)
}

// A token that is bound to a key is good with a proof of that key for just this
// request, once over all processes, and for the rest of the request by the receipt.
func TestProofs(t *testing.T) {
	t.Parallel()
	m := newMint(t)
	client, thief := newProver(t), newProver(t)
	st := newStore(t)
	bound := func(c *auth.Config) {
		m.config(c)
		c.OAuth.Issuers[0].DPoP = "optional"
	}
	here, there := open(t, st, bound), open(t, st, bound)
	token := m.token(t, map[string]any{"cnf": map[string]string{"jkt": client.thumbprint}})
	shown := func(token, proof string) *authv1.Credential {
		return &authv1.Credential{
			Scheme: authv1.Scheme_SCHEME_DPOP, Token: token, DpopProof: proof,
			HttpMethod: "POST", HttpUri: "https://gate.example.com/mcp",
		}
	}
	ask := func(h *house, c *authv1.Credential) *authv1.AuthenticateResponse {
		t.Helper()
		got, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: c, Origin: from("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	good := shown(token, client.prove(t, token, nil))
	got := ask(here, good)
	if got.GetPrincipal() == nil || got.GetValidFor() != nil || len(got.GetProofReceipt()) == 0 {
		t.Fatalf("a good proof: got %v", got)
	}
	filter := func(h *house, c *authv1.Credential) bool {
		t.Helper()
		resp, err := h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{Credential: c, Origin: from("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetPrincipal() != nil
	}
	if filter(there, good) {
		t.Error("a proof without its receipt is taken for the rest of a request")
	}
	good.ProofReceipt = got.GetProofReceipt()
	if !filter(there, good) {
		t.Error("a receipt is not taken by another process")
	}
	for name, h := range map[string]*house{"here": here, "there": there} {
		if again := ask(h, good); again.GetPrincipal() != nil {
			t.Errorf("a proof is taken a second time %s", name)
		}
	}
	free := m.token(t, nil)
	const bad, needed = authv1.ChallengeError_CHALLENGE_ERROR_DPOP_PROOF, authv1.ChallengeError_CHALLENGE_ERROR_DPOP_NEEDED
	tests := []struct {
		name string
		c    *authv1.Credential
		want authv1.ChallengeError
	}{
		{"without a proof", shown(token, ""), bad},
		{"as a bearer token", bearer(token), needed},
		{"a proof of another key", shown(token, thief.prove(t, token, nil)), bad},
		{"a proof for another token", shown(token, client.prove(t, free, nil)), bad},
		{"a proof for another method", shown(token, client.prove(t, token, map[string]any{"htm": "GET"})), bad},
		{"a proof for another address", shown(token, client.prove(t, token, map[string]any{"htu": "https://gate.example.com/other"})), bad},
		{"an old proof", shown(token, client.prove(t, token, map[string]any{"iat": time.Now().Add(-time.Hour).Unix()})), bad},
		{"a proof of tomorrow", shown(token, client.prove(t, token, map[string]any{"iat": time.Now().Add(time.Hour).Unix()})), bad},
		{"a proof without an id", shown(token, client.prove(t, token, map[string]any{"jti": ""})), bad},
		{"a proof for a token that is bound to nothing", shown(free, client.prove(t, free, nil)), bad},
	}
	for _, tt := range tests {
		if got := ask(here, tt.c); got.GetPrincipal() != nil || got.GetChallenge() != tt.want {
			t.Errorf("%s: got %v, want the challenge %v", tt.name, got, tt.want)
		}
	}
	off := open(t, newStore(t), m.config)
	if got := ask(off, shown(token, client.prove(t, token, nil))); got.GetPrincipal() != nil {
		t.Errorf("where proofs are off: got %v", got)
	}
}
