package injection

import (
	"strings"
	"testing"
)

// There is room for all signs, and their words are as the search wants them.
func TestSigns(t *testing.T) {
	t.Parallel()
	if len(signs) > maxSigns {
		t.Errorf("%d signs, and there is room for %d", len(signs), maxSigns)
	}
	for i, s := range signs {
		if s.weight <= 0 || len(s.words) == 0 {
			t.Errorf("sign %d counts for nothing", i)
		}
		for _, w := range s.words {
			if strings.ContainsAny(w, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") || w == "" {
				t.Errorf("sign %d: the word %q is not in lower case", i, w)
			}
		}
	}
}
