package taint_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/taint"
)

// pieces are what texts are made of that have values in them, or nearly.
var pieces = []string{
	"DE89", "3704", "0044", " ", " ", "-", ".", ":", "/", "://", "http", "@", "a", "b.example", "www.", "12", "2026", "11", "29", "0",
	"(", ")", "+", "=", "&", "?", "#", "_", "Ⱥ", "K", "İ", "ü", "\u00a0", "\u2009", "\xff", "fe80", "::", "1.2.3.4", "AbC", "x9",
	"~", "[", "]", "\"", ",", "com", "\u200d", "%", "DE", "mailto", "\t",
}

// TestValuesArePinned sees to it that the values in 20,000 texts are what they were in
// the first release: executors and auth of two releases read each other's records, and
// a context has them for a day. Who changes what a value is has to think of that.
func TestValuesArePinned(t *testing.T) {
	t.Parallel()
	const want = "2af2cb247a051d6b9117d36f0ca31193ea7ca89414019615fef6c013023fe4da"
	r := rand.New(rand.NewPCG(1, 2))
	h, count := sha256.New(), 0
	for range 20_000 {
		var text strings.Builder
		for range r.IntN(14) {
			text.WriteString(pieces[r.IntN(len(pieces))])
		}
		for _, side := range []taint.Side{taint.Content, taint.Argument} {
			all := values(text.String(), side)
			count += len(all)
			_, _ = io.WriteString(h, strings.Join(all, "\n")+"\n\n") // a hash takes everything
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("%d values with the hash %s, want %s", count, got, want)
	}
}
