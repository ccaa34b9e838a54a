package keyring_test

import (
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
)

// What a key is bound to is kept; a record with something else in that place is not
// good.
func TestProofKeyIsKept(t *testing.T) {
	t.Parallel()
	peppers := newPeppers(t, 1)
	for _, tt := range []struct {
		name, thumbprint string
		good             bool
	}{
		{"bound to nothing", "", true},
		{"bound to a key", strings.Repeat("A", 43), true},
		{"cut off", strings.Repeat("A", 42), false},
	} {
		r, _ := record(peppers)
		r.ProofKey = tt.thumbprint
		got, err := keyring.Decode(encode(t, r, peppers), peppers)
		if (err == nil) != tt.good || err == nil && got.ProofKey != tt.thumbprint {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
	}
}
