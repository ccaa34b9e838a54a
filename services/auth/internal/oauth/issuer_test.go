package oauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth"
)

// object is a JSON object.
type object map[string]any

// signer is a key of an issuer.
type signer struct {
	id  string
	key *ecdsa.PrivateKey
}

func newSigner(t testing.TB, id string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{id, key}
}

func (s signer) jwk() object {
	point, err := s.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		panic(err)
	}
	return object{
		"kty": "EC", "crv": "P-256", "kid": s.id, "use": "sig", "alg": "ES256",
		"x": encode(point[1:33]), "y": encode(point[33:]),
	}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func part(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return encode(b)
}

// sign makes a token of any header and payload.
func (s signer) sign(t testing.TB, header, payload string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(header + "." + payload))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	v.FillBytes(signature[32:])
	return header + "." + payload + "." + encode(signature)
}

// issuer is an authorization server as far as a resource server meets it.
type issuer struct {
	*httptest.Server
	keys    atomic.Pointer[[]object]
	down    atomic.Bool
	fetches atomic.Int64
}

func newIssuer(t testing.TB, signers ...signer) *issuer {
	t.Helper()
	i := new(issuer)
	i.publish(signers...)
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(object{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.fetches.Add(1)
		if i.down.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(object{"keys": *i.keys.Load()})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) publish(signers ...signer) {
	all := []object{{"kty": "oct", "k": "c2VjcmV0", "kid": "not for us"}}
	for _, s := range signers {
		all = append(all, s.jwk())
	}
	i.keys.Store(&all)
}

func (i *issuer) verifier(t testing.TB, edit func(*oauth.Config)) *oauth.Verifier {
	t.Helper()
	c := oauth.DefaultConfig()
	c.Resource, c.Issuers = resource, []oauth.Issuer{{Issuer: i.URL}}
	if edit != nil {
		edit(&c)
	}
	v, err := oauth.New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (i *issuer) claims(now time.Time) object {
	return object{
		"iss": i.URL, "sub": "anna", "aud": resource, "client_id": "inspector", "scope": "tools:read sql:run",
		"exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nbf": now.Unix(),
		"name": "Anna", "email": "anna@example.com", "roles": []string{"analyst", "Not a role"},
	}
}
