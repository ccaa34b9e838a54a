package apikey_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
)

// golden is a key made once; its checksum was computed outside this package.
const golden = "sp_dev_7Xk2abcdef_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg3xdlhJ"

func TestMintedKeysParse(t *testing.T) {
	t.Parallel()
	scanner := regexp.MustCompile(apikey.Pattern)
	seen := make(map[string]bool)
	for range 200 {
		want := apikey.Mint("dev")
		text := want.Reveal()
		got, err := apikey.Parse(text)
		if err != nil || got != want {
			t.Fatalf("Parse of a minted key: got %v, %v; want %v", got, err, want)
		}
		if seen[got.ID] || len(got.ID) != 10 {
			t.Errorf("id %q is not new or not 10 long", got.ID)
		}
		seen[got.ID] = true
		if found := scanner.FindString("export KEY='" + text + "'"); found != text {
			t.Errorf("the scanner's pattern found %q", found)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	flip := func(i int) string {
		b := []byte(golden)
		if b[i] == 'x' {
			b[i] = 'y'
		} else {
			b[i] = 'x'
		}
		return string(b)
	}
	tests := []struct {
		name string
		text string
		ok   bool
	}{
		{"a key made by another implementation", golden, true},
		{"nothing", "", false},
		{"only a prefix", "sp_", false},
		{"another prefix", "xx" + golden[2:], false},
		{"a changed environment", flip(4), false},
		{"a changed id", flip(8), false},
		{"a changed secret", flip(25), false},
		{"a changed checksum", flip(len(golden) - 1), false},
		{"a digit too few", golden[:len(golden)-1], false},
		{"a digit too many", golden + "0", false},
		{"a space before", " " + golden, false},
		{"a line break after", golden + "\n", false},
		{"sixteen kilobytes", strings.Repeat(golden, 240), false},
		{"not ASCII", "sp_dev_7Xk2abcdef_" + strings.Repeat("é", 49), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			token, err := apikey.Parse(tt.text)
			if (err == nil) != tt.ok {
				t.Fatalf("got error %v, want ok %v", err, tt.ok)
			}
			if tt.ok && token.Reveal() != tt.text {
				t.Errorf("got back %q, want %q", token.Reveal(), tt.text)
			}
			if err != nil && err != apikey.ErrMalformed {
				t.Errorf("got error %v, which may tell of the key", err)
			}
		})
	}
}

func TestTokenDoesNotPrint(t *testing.T) {
	t.Parallel()
	token, err := apikey.Parse(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		if got := fmt.Sprintf(verb, token); strings.Contains(got, "ABCDEF") || strings.Contains(got, "41424344") {
			t.Errorf("%s shows %s", verb, got)
		}
	}
	if got, want := token.String(), "sp_dev_7Xk2abcdef_…"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSum(t *testing.T) {
	t.Parallel()
	material := bytes.Repeat([]byte{7}, 32)
	pepper := apikey.NewPepper(secret.NewKey(material))
	token, err := apikey.Parse(golden)
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha256.New, material)
	fmt.Fprint(h, "sallyport-key-v1", "7Xk2abcdef", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg")
	for range 3 { // the second time on a used hash
		if got := pepper.Sum(token); !bytes.Equal(got[:], h.Sum(nil)) {
			t.Errorf("got %x, want %x", got, h.Sum(nil))
		}
	}
	if other := apikey.NewPepper(secret.NewKey(bytes.Repeat([]byte{8}, 32))); other.Sum(token) == pepper.Sum(token) || other.ID() == pepper.ID() {
		t.Error("two peppers agree")
	}
	if a, b := pepper.Seal("a", []byte("data")), pepper.Seal("b", []byte("data")); a == b {
		t.Error("two domains agree")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(golden)
	f.Add(apikey.Mint("live").Reveal())
	f.Add("sp_dev__")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := apikey.Parse(text)
		if err != nil {
			return
		}
		if token.Reveal() != text {
			t.Errorf("Parse(%q) gives back %q", text, token.Reveal())
		}
		if !regexp.MustCompile("^" + apikey.Pattern + "$").MatchString(text) {
			t.Errorf("Parse(%q) accepts what the published pattern does not find", text)
		}
	})
}

func BenchmarkParseAndSum(b *testing.B) {
	pepper := apikey.NewPepper(secret.NewKey(bytes.Repeat([]byte{7}, 32)))
	text := apikey.Mint("dev").Reveal()
	b.ReportAllocs()
	for b.Loop() {
		token, err := apikey.Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		_ = pepper.Sum(token)
	}
}
