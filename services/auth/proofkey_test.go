package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/auth"
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

func TestProofThumbprint(t *testing.T) {
	t.Parallel()
	// RFC 7638, 3.1.
	const example = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	// RFC 8037, A.3.
	const edwards = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	client := newProver(t)
	plain, err := json.Marshal(client.jwk)
	if err != nil {
		t.Fatal(err)
	}
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
		{"a JWK", string(plain), client.thumbprint, nil, ""},
		{"PEM", string(inPEM(t, "PUBLIC KEY", client.key.Public())) + "\n", client.thumbprint, nil, ""},
		{"a private key in PEM", string(inPEM(t, "PRIVATE KEY", private)), "", auth.ErrProofKeyPrivate, "openssl"},
		{"a private JWK", strings.Replace(edwards, "{", `{"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",`, 1), "", auth.ErrProofKeyPrivate, ""},
		{"two keys", strings.Repeat(string(inPEM(t, "PUBLIC KEY", public)), 2), "", auth.ErrProofKey, "more in the file"},
		{"RSA of 1024 bits", string(inPEM(t, "PUBLIC KEY", weak.Public())), "", auth.ErrProofKey, "too weak"},
		{"a curve that no proof may have", string(inPEM(t, "PUBLIC KEY", old.Public())), "", auth.ErrProofKey, ""},
		{"a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "", auth.ErrProofKey, "CERTIFICATE"},
		{"something in PEM", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "", auth.ErrProofKey, "no public key"},
		{"a JWK that is for encryption", strings.Replace(edwards, "{", `{"use":"enc",`, 1), "", auth.ErrProofKey, "use"},
		{"a set of keys", `{"keys":[` + edwards + `]}`, "", auth.ErrProofKey, ""},
		{"nothing", "", "", auth.ErrProofKey, ""},
		{"a flood", strings.Repeat(" ", 1<<20) + edwards, "", auth.ErrProofKey, "longer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := auth.ProofThumbprint([]byte(tt.text))
			if got != tt.want || !errors.Is(err, tt.fails) || err != nil && !strings.Contains(err.Error(), tt.say) {
				t.Errorf("got %q, %v; want %q, %v saying %q", got, err, tt.want, tt.fails, tt.say)
			}
		})
	}
}

func FuzzProofThumbprint(f *testing.F) {
	f.Add([]byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n"))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := auth.ProofThumbprint(text)
		if (err == nil) != (len(got) == 43) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}
