package jose_test

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

// vectors is a file of Project Wycheproof.
type vectors struct {
	TestGroups []struct {
		Comment string
		Public  json.RawMessage
		Private json.RawMessage
		Tests   []struct {
			ID      int `json:"tcId"`
			Comment string
			JWS     any
			JWE     any
			Result  string
		}
	}
}

// Each forged token must be refused with the key of its group, and each good one
// of an algorithm that is taken must be accepted.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"signature", "crypto", "key"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			accepted, rejected := 0, 0
			for _, g := range readVectors(t, name).TestGroups {
				raw := g.Public
				if raw == nil {
					raw = g.Private
				}
				set, alg := keysOf(raw)
				for _, tt := range g.Tests {
					where := fmt.Sprintf("%s %d (%s)", g.Comment, tt.ID, tt.Comment)
					shown := tt.JWS
					if shown == nil {
						shown = tt.JWE
					}
					err := verify(shown, set)
					switch {
					case tt.Result == "invalid" && err == nil:
						t.Errorf("%s: got no error, want it refused", where)
					case tt.Result == "valid" && err != nil && tt.JWE == nil && !refusedOnPurpose(shown, alg):
						t.Errorf("%s: got %v, want it accepted", where, err)
					case err == nil:
						accepted++
					default:
						rejected++
					}
				}
			}
			t.Logf("%d accepted, %d refused", accepted, rejected)
			if accepted+rejected == 0 {
				t.Error("no vectors")
			}
		})
	}
}

// refusedOnPurpose reports whether a good token is one that we do not take: one
// that is signed with a secret, or by another algorithm than is written with the
// key ("ES521", or PS384 with a key for PS256), or has a character that is not of
// its encoding.
func refusedOnPurpose(shown any, alg string) bool {
	text, _ := shown.(string)
	if strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return true
	}
	head, _, _ := strings.Cut(text, ".")
	raw, err := base64.RawURLEncoding.DecodeString(head)
	var header struct{ Alg string }
	if err != nil || json.Unmarshal(raw, &header) != nil {
		return false
	}
	return strings.HasPrefix(header.Alg, "HS") || alg != "" && alg != header.Alg
}

func readVectors(t *testing.T, name string) (v vectors) {
	t.Helper()
	f, err := os.Open("testdata/wycheproof/json_web_" + name + "_test.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// keysOf returns the usable keys of a group, which has a key or a set of them, and
// the alg that is written with a single one.
func keysOf(raw json.RawMessage) (*jose.Set, string) {
	var about struct {
		Alg  string
		Keys []json.RawMessage
	}
	_ = json.Unmarshal(raw, &about) // what cannot be read is no key
	if about.Keys != nil {
		set, _, err := jose.ParseSet(raw)
		if err != nil {
			return jose.NewSet(), ""
		}
		return set, ""
	}
	k, err := jose.ParseKey(raw)
	if err != nil {
		return jose.NewSet(), about.Alg
	}
	return jose.NewSet(k), about.Alg
}

// verify does what the verification of an access token does, but for the claims:
// the payloads of the vectors are no objects.
func verify(shown any, set *jose.Set) error {
	text, ok := shown.(string)
	if !ok {
		b, err := json.Marshal(shown) // the JSON serialisation
		if err != nil {
			return err
		}
		text = string(b)
	}
	token, _, err := jose.ParseBytes(text)
	if err != nil {
		return err
	}
	k := set.Find(token.KeyID, token.Algorithm)
	if k == nil {
		return jose.ErrKey
	}
	return token.Verify(k)
}
