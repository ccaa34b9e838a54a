package jose_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
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

// trusted are vectors of weak keys that cannot be told from good ones. Keys are of
// issuers that the operator trusts.
var trusted = map[string]bool{
	"jws_rsa_roca_key 46 (rejectsKeyWithRocaVulnerability)": true,
	"jws_rsa_roca_key 7 (rejectsKeyWithRocaVulnerability)":  true,
}

// strict are good vectors that are refused all the same: the key says PS256, and the
// token PS384.
var strict = map[string]bool{"rfc7520 346 (Figure20)": true, "rfc7520WithKeyOps 350 (Figure20)": true}

// Each forged token must be refused with the key of its group, and each good one
// of an algorithm and a key that are taken must be accepted.
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
				set := keysOf(raw)
				for _, tt := range g.Tests {
					where := fmt.Sprintf("%s %d (%s)", g.Comment, tt.ID, tt.Comment)
					shown := tt.JWS
					if shown == nil {
						shown = tt.JWE
					}
					err := verify(shown, set)
					switch {
					case tt.Result == "invalid" && err == nil && !trusted[where]:
						t.Errorf("%s: got no error, want it refused", where)
					case tt.Result == "valid" && err != nil && set.Len() > 0 && taken(shown) && !strict[where]:
						t.Errorf("%s: got %v, want it accepted", where, err)
					case err == nil:
						accepted++
					default:
						rejected++
					}
				}
			}
			t.Logf("%d accepted, %d refused", accepted, rejected)
			if accepted == 0 || rejected == 0 {
				t.Error("the vectors show nothing")
			}
		})
	}
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
func keysOf(raw json.RawMessage) *jose.Set {
	var about struct {
		Keys []json.RawMessage
	}
	_ = json.Unmarshal(raw, &about) // what cannot be read is no key
	if about.Keys != nil {
		set, _, err := jose.ParseSet(raw)
		if err != nil {
			return jose.NewSet()
		}
		return set
	}
	k, err := jose.ParseKey(raw)
	if err != nil {
		return jose.NewSet()
	}
	return jose.NewSet(k)
}

// taken reports whether a token in compact form has an algorithm that is taken.
func taken(shown any) bool {
	text, ok := shown.(string)
	if !ok {
		return false
	}
	_, _, err := jose.ParseBytes(text)
	return err == nil
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
