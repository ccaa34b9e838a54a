package jose_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

// The keys of RFC 7638 section 3.1, RFC 7517 appendix A.1 and RFC 8037 appendix A.
const (
	rsaN = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	rsa  = `{"kty":"RSA","n":"` + rsaN + `","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	ecXY = `"x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"`
	ec   = `{"kty":"EC","crv":"P-256",` + ecXY + `,"use":"sig","kid":"1"}`
	okp  = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
)

func TestThumbprint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		rsa: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		okp: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
	} {
		k, err := jose.ParseKey([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if k.Thumbprint() != want {
			t.Errorf("got %s, want %s", k.Thumbprint(), want)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text string }{
		{"no object", `"key"`},
		{"an unknown kind", `{"kty":"XYZ"}`},
		{"a secret key", `{"kty":"oct","k":"AAAA"}`},
		{"a private key", strings.Replace(okp, "}", `,"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}`, 1)},
		{"a member twice", strings.Replace(ec, "}", `,"kid":"2"}`, 1)},
		{"a key for encryption", strings.Replace(ec, `"sig"`, `"enc"`, 1)},
		{"a use that is no string", strings.Replace(ec, `"sig"`, `["sig"]`, 1)},
		{"operations without verify", strings.Replace(okp, "}", `,"key_ops":["sign"]}`, 1)},
		{"operations that are no list", strings.Replace(okp, "}", `,"key_ops":"verify"}`, 1)},
		{"an alg of another kind of key", strings.Replace(rsa, "RS256", "ES256", 1)},
		{"a secret's alg", strings.Replace(rsa, "RS256", "HS256", 1)},
		{"an alg of another curve", strings.Replace(ec, "}", `,"alg":"ES384"}`, 1)},
		{"an unknown curve", strings.Replace(ec, "P-256", "secp256k1", 1)},
		{"a point that is not on the curve", strings.Replace(ec, "4Etl", "4Etm", 1)},
		{"the zero point", `{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`},
		{"a coordinate that is too short", strings.Replace(ec, "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "MKBC", 1)},
		{"an RSA key of 1024 bits", `{"kty":"RSA","e":"AQAB","n":"` + rsaN[:171] + `"}`},
		{"an exponent of 1", strings.Replace(rsa, "AQAB", "AQ", 1)},
		{"an exponent of 3", strings.Replace(rsa, "AQAB", "Aw", 1)},
		{"an even exponent", strings.Replace(rsa, "AQAB", "AQAA", 1)},
		{"an exponent with zeros before it", strings.Replace(rsa, "AQAB", "AAEAAQ", 1)},
		{"an exponent that is absent", strings.Replace(rsa, `"e":"AQAB",`, "", 1)},
		{"an Ed25519 key of another length", strings.Replace(okp, "URo", "", 1)},
		{"Ed448", strings.Replace(okp, "Ed25519", "Ed448", 1)},
		{"a kid that is no string", strings.Replace(ec, `"1"`, `1`, 1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := jose.ParseKey([]byte(tt.text)); !errors.Is(err, jose.ErrKey) {
				t.Errorf("got %v, want it refused", err)
			}
		})
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	set, skipped, err := jose.ParseSet([]byte(`{"keys":[` + rsa + `,` + ec + `,` + okp + `,{"kty":"oct","k":"AAAA","kid":"1"}]}`))
	if err != nil || skipped != 1 || set.Len() != 3 {
		t.Fatalf("got %d keys, %d skipped, %v", set.Len(), skipped, err)
	}
	tests := []struct {
		name, id, alg string
		found         bool
	}{
		{"the key of that id", "1", "ES256", true},
		{"another algorithm for it", "1", "ES384", false},
		{"a secret's algorithm for it", "1", "HS256", false},
		{"another algorithm than is written with the key", "2011-04-29", "PS256", false},
		{"an unknown id", "2", "ES256", false},
		{"no id, and one key fits", "", "ES256", true},
		{"no id, and no key fits", "", "ES512", false},
		{"an id of a key that has none", "x", "EdDSA", false},
	}
	for _, tt := range tests {
		if got := set.Find(tt.id, tt.alg); (got != nil) != tt.found {
			t.Errorf("%s: got %v, want found %v", tt.name, got, tt.found)
		}
	}
	twice, _, err := jose.ParseSet([]byte(`{"keys":[` + ec + `,` + ec + `]}`))
	if err != nil || twice.Find("1", "ES256") != nil || twice.Find("", "ES256") != nil {
		t.Errorf("%v: a key was taken though two have the id", err)
	}
	again, _, err := jose.ParseSet([]byte(`{"keys":[` + ec + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	kept := again.Keeping(set)
	if k := set.Find("1", "ES256"); !kept.Has(k) || again.Has(k) {
		t.Error("a key that is still there is another one after a refresh")
	}
}

func TestParseSetRefuses(t *testing.T) {
	t.Parallel()
	many := strings.TrimSuffix(strings.Repeat(`{"kty":"x"},`, jose.MaxKeys+1), ",")
	for name, text := range map[string]string{
		"no object":     `[]`,
		"no keys":       `{}`,
		"keys twice":    `{"keys":[],"keys":[]}`,
		"keys no array": `{"keys":{}}`,
		"too many keys": `{"keys":[` + many + `]}`,
		"too long":      fmt.Sprintf(`{"keys":[],"x":%q}`, strings.Repeat("x", jose.MaxSet)),
	} {
		if _, _, err := jose.ParseSet([]byte(text)); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func FuzzParseSet(f *testing.F) {
	f.Add([]byte(`{"keys":[` + rsa + `,` + ec + `,` + okp + `]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"","e":""},{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		set, skipped, err := jose.ParseSet(raw)
		if err != nil {
			return
		}
		if set.Len()+skipped > jose.MaxKeys {
			t.Errorf("got %d keys", set.Len()+skipped)
		}
		for _, alg := range jose.Algorithms() {
			if k := set.Find("", alg); k != nil && (len(k.Thumbprint()) != 43 || !k.Fits(alg)) {
				t.Errorf("a key for %s with thumbprint %q", alg, k.Thumbprint())
			}
		}
	})
}
