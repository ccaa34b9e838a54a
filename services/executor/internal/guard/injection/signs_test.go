package injection

import (
	"regexp/syntax"
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

// What a phrase needs is in all that it matches.
func TestNeeds(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		`x{0,3}(?i:\b(?:instructions?|rules)\b)`: "instruction rules",
		`(?i:send|ab)`:                           "",
		`(?i:to https?:|[a-z]{1,9}@)`:            "@ to http",
		`(?i:send)?`:                             "",
		`(?i:a+the words?)`:                      "the word",
		`(?i:приказ)`:                            "",
		`(?i:(one|two){2})`:                      "one two",
		`(?i:(one|two){0,2})`:                    "",
		``:                                       "",
	} {
		re, err := syntax.Parse(expression, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(needs(re), " "); got != want {
			t.Errorf("%s: got %q, want %q", expression, got, want)
		}
	}
}
