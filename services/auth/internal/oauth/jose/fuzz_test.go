package jose_test

import (
	"testing"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

func FuzzParse(f *testing.F) {
	f.Add("eyJhbGciOiJFUzI1NiJ9.e30.AA")
	f.Add("e30.e30.e30")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := jose.Parse(text)
		if err == nil && (token.Algorithm == "" || token.Claims == nil) {
			t.Errorf("got %+v", token)
		}
	})
}

func FuzzParseSet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA","n":"AQ","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`))
	f.Add([]byte(`{"keys":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, _, err := jose.ParseSet(text)
		if err != nil {
			return
		}
		for _, algorithm := range jose.Algorithms() {
			if k := set.Find("", algorithm); k != nil && !k.Fits(algorithm) {
				t.Errorf("a key that does not fit %s", algorithm)
			}
		}
	})
}
