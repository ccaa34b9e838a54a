package mcp_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/mcp"
)

// A proof is one that another library takes, of the key and for the request. It
// brings along the public key and nothing of the private one.
func TestProofs(t *testing.T) {
	t.Parallel()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(p256)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: p256, KeyID: "mine", Use: "sig", Algorithm: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) string {
		text, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}))
	}
	tests := []struct {
		name, text string
		key        crypto.Signer
		algorithm  jose.SignatureAlgorithm
	}{
		{"P-256", pkcs8(p256), p256, jose.ES256},
		{"P-521", pkcs8(p521), p521, jose.ES512},
		{"Ed25519", pkcs8(edwards), edwards, jose.EdDSA},
		{"RSA", pkcs8(rsaKey), rsaKey, jose.PS256},
		{
			"as openssl ecparam writes it",
			"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})),
			p256, jose.ES256,
		},
		{"JWK", string(jwk) + "\n", p256, jose.ES256},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k, err := mcp.ReadProofKey([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			now := time.Unix(1_900_000_000, 0)
			proof, err := k.Prove("POST", "https://gate.example.com/mcp?x=1#y", "sp_key", now)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := jose.ParseSigned(proof, []jose.SignatureAlgorithm{tt.algorithm})
			if err != nil {
				t.Fatal(err)
			}
			payload, err := signed.Verify(tt.key.Public())
			if err != nil {
				t.Fatal(err)
			}
			var claims struct {
				ID       string `json:"jti"`
				HTM, HTU string
				IAT      int64
				ATH      string
			}
			if err := json.Unmarshal(payload, &claims); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256([]byte("sp_key"))
			if claims.HTM != "POST" || claims.HTU != "https://gate.example.com/mcp" || claims.IAT != now.Unix() ||
				claims.ATH != base64.RawURLEncoding.EncodeToString(sum[:]) || len(claims.ID) < 20 {
				t.Errorf("got claims %s", payload)
			}
			header := signed.Signatures[0].Protected
			if header.ExtraHeaders[jose.HeaderType] != "dpop+jwt" || header.JSONWebKey == nil || !header.JSONWebKey.IsPublic() || header.JSONWebKey.KeyID != "" {
				t.Errorf("got header %+v", header)
			}
			if again, err := k.Prove("POST", "https://gate.example.com/mcp", "sp_key", now); err != nil || again == proof {
				t.Errorf("the second proof is the first: %v", err)
			}
			if text := fmt.Sprintf("%v %+v %#v", k, k, k); text != "a private key a private key a private key" {
				t.Errorf("it prints as %q", text)
			}
		})
	}
}

func TestKeysThatMakeNoProofs(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, say string }{
		{"nothing", "", "cannot be read"},
		{"a public JWK", `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, "not a private key"},
		{"a public key in PEM", "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n", "cannot be read"},
		{"a shared secret", `{"kty":"oct","k":"AAAA"}`, "not a private key"},
		{"an encrypted key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted"},
		{"something in PEM", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cannot be read"},
		{"a flood", strings.Repeat("A", 1<<20), "too long"},
	}
	for _, tt := range tests {
		if _, err := mcp.ReadProofKey([]byte(tt.text)); !errors.Is(err, mcp.ErrProofKey) || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.say)
		}
	}
}

func FuzzReadProofKey(f *testing.F) {
	f.Add([]byte(`{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := mcp.ReadProofKey(text); (k == nil) != errors.Is(err, mcp.ErrProofKey) {
			t.Errorf("got %v, %v", k, err)
		}
	})
}

// What a server says of a proof is told with what to do.
func TestRefusedProofs(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, challenge, want string }{
		{"a key that needs one", `Bearer realm="sallyport", error="invalid_token", DPoP algs="ES256", error="invalid_token"`, "--proof-key"},
		{"a bad one", `Bearer realm="sallyport", DPoP algs="ES256", error="invalid_dpop_proof"`, "another key"},
		{"a bad key", `Bearer realm="sallyport", error="invalid_token", DPoP algs="ES256"`, "not accepted"},
		{"a server that says nothing", "", "not accepted"},
	}
	for _, tt := range tests {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", tt.challenge)
			w.WriteHeader(http.StatusUnauthorized)
		}))
		t.Cleanup(srv.Close)
		_, err := mcp.Client{URL: srv.URL, Key: "k", Name: "t"}.Call(t.Context(), "echo", map[string]any{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}
