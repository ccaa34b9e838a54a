// Package personal finds personal data in texts: mail addresses, telephone numbers,
// payment cards, bank accounts and national ids. What has check digits is told by them
// (Luhn, ISO 7064 mod 97 and such); names and postal addresses are not found.
package personal

import (
	"regexp"
	"slices"
	"strings"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// kind is one kind of data: an expression, and what must be true of a match. The
// expressions take in the character before and after, so that no part of a longer
// number is taken for a number; group 1 is the data.
type kind struct {
	rule  string
	like  *regexp.Regexp
	right func(string) bool // of the match without separators; nil for all
}

// Guard finds personal data. It is safe for concurrent use.
type Guard struct{ mail, numbers []kind }

// New returns a guard.
func New() *Guard {
	number := func(rule, like string, right func(string) bool) kind {
		return kind{rule, regexp.MustCompile(`(?:^|[^\w.+-])(` + like + `)(?:[^\w-]|$)`), right}
	}
	return &Guard{
		mail: []kind{{"email", regexp.MustCompile(`(?i)([a-z0-9][a-z0-9._%+-]{0,63}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z]{2,24})`), nil}},
		numbers: []kind{
			number("iban", `[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?`, iban),
			number("card", `\d(?:[ -]?\d){12,18}`, card),
			number("cpf", `\d{3}\.\d{3}\.\d{3}-\d{2}`, cpf),
			number("us-ssn", `\d{3}-\d{2}-\d{4}`, ssn),
			number("es-dni", `\d{8}-?[A-Z]`, dni),
			number("fr-nir", `[12] ?\d{2} ?[0-9]{2} ?\d[0-9AB] ?\d{3} ?\d{3} ?\d{2}`, nir),
			number("uk-nino", `[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]`, nil),
			number("phone", `\+[1-9](?:[ .()/-]{0,2}\d){7,14}|\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4}`, nil),
		},
	}
}

// Find returns the personal data in a text.
func (g *Guard) Find(text string) []span.Found {
	var found []span.Found
	if strings.IndexByte(text, '@') >= 0 {
		found = look(found, g.mail, text)
	}
	if digits(text) {
		found = look(found, g.numbers, text)
	}
	slices.SortStableFunc(found, func(a, b span.Found) int { return a.Start - b.Start })
	kept := found[:0]
	for _, f := range found {
		if last := len(kept) - 1; last >= 0 && f.Start < kept[last].End {
			kept[last].End = max(kept[last].End, f.End)
			continue
		}
		kept = append(kept, f)
	}
	return kept
}

// digits reports whether there are as many digits as the shortest number has.
func digits(text string) bool {
	n := 0
	for i := range len(text) {
		if c := text[i]; '0' <= c && c <= '9' {
			if n++; n == 6 {
				return true
			}
		}
	}
	return false
}

func look(found []span.Found, kinds []kind, text string) []span.Found {
	for _, k := range kinds {
		for at := 0; at < len(text); {
			m := k.like.FindStringSubmatchIndex(text[at:])
			if m == nil {
				break
			}
			start, end := at+m[2], at+m[3]
			at = end // what follows may be before the next
			if k.right == nil || k.right(bare.Replace(text[start:end])) {
				found = append(found, span.Found{Start: start, End: end, Rule: k.rule, Instead: "[removed: personal data " + k.rule + "]"})
			}
		}
	}
	return found
}

// bare takes separators out of a number.
var bare = strings.NewReplacer(" ", "", "-", "", ".", "")
