package dpop_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/dpop"
)

// inPEM writes a key as openssl does.
func inPEM(t testing.TB, kind string, key any) []byte {
	t.Helper()
	var text []byte
	var err error
	switch kind {
	case "PUBLIC KEY":
		text, err = x509.MarshalPKIXPublicKey(key)
	case "PRIVATE KEY":
		text, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: text})
}

func TestThumbprint(t *testing.T) {
	t.Parallel()
	// RFC 7638, 3.1.
	const example = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	// RFC 8037, A.3.
	const edwards = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	client, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: client.Public()}
	plain, err := json.Marshal(jwk)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	thumbprint := base64.RawURLEncoding.EncodeToString(sum)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, text string
		want       string
		fails      error
		say        string
	}{
		{"the example of the standard", example, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", nil, ""},
		{"that of Ed25519", edwards, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", nil, ""},
		{"a JWK", string(plain), thumbprint, nil, ""},
		{"PEM", string(inPEM(t, "PUBLIC KEY", client.Public())) + "\n", thumbprint, nil, ""},
		{"a private key in PEM", string(inPEM(t, "PRIVATE KEY", private)), "", dpop.ErrPrivate, "openssl"},
		{"a private JWK", strings.Replace(edwards, "{", `{"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",`, 1), "", dpop.ErrPrivate, ""},
		{"two keys", strings.Repeat(string(inPEM(t, "PUBLIC KEY", public)), 2), "", dpop.ErrKey, "more in the file"},
		{"RSA of 1024 bits", string(inPEM(t, "PUBLIC KEY", weak.Public())), "", dpop.ErrKey, "too weak"},
		{"a curve that no proof may have", string(inPEM(t, "PUBLIC KEY", old.Public())), "", dpop.ErrKey, ""},
		{"a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "", dpop.ErrKey, "CERTIFICATE"},
		{"something in PEM", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "", dpop.ErrKey, "no public key"},
		{"a JWK that is for encryption", strings.Replace(edwards, "{", `{"use":"enc",`, 1), "", dpop.ErrKey, "use"},
		{"a set of keys", `{"keys":[` + edwards + `]}`, "", dpop.ErrKey, ""},
		{"nothing", "", "", dpop.ErrKey, ""},
		{"a flood", strings.Repeat(" ", 1<<20) + edwards, "", dpop.ErrKey, "longer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := dpop.Thumbprint([]byte(tt.text))
			if got != tt.want || !errors.Is(err, tt.fails) || err != nil && !strings.Contains(err.Error(), tt.say) {
				t.Errorf("got %q, %v; want %q, %v saying %q", got, err, tt.want, tt.fails, tt.say)
			}
		})
	}
}

func FuzzThumbprint(f *testing.F) {
	f.Add([]byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n"))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := dpop.Thumbprint(text)
		if (err == nil) != (len(got) == 43) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}
