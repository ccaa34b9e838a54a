// Package personal finds personal data in texts: mail addresses, telephone numbers,
// payment cards, bank accounts and national ids. What has check digits is told by them
// (Luhn, ISO 7064 mod 97 and such); names and postal addresses are not found.
package personal

import (
	"iter"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// kind is one kind of data: an expression, and what must be true of a match. The
// expressions take in the character before and after, so that no part of a longer
// number is taken for a number; group 1 is the data.
type kind struct {
	rule  string
	like  *regexp.Regexp
	right func(string) bool // of the match without separators; nil for all
	can   func(run) bool    // whether a run may have one; of numbers
}

// run is a part of a text in which there may be numbers, with the character before and
// the one after it, and how many there are of what numbers are written with.
type run struct {
	start, end int

	digits, letters, dashes, dots int
	opens                         int // + and (
	plain                         int // digits that follow each other, at most
}

// Guard finds personal data. It is safe for concurrent use.
type Guard struct {
	mail    kind
	numbers []kind
}

// New returns a guard.
func New() *Guard {
	number := func(rule, like string, right func(string) bool, can func(run) bool) kind {
		return kind{rule, regexp.MustCompile(`(?:^|[^\w.+-])(` + like + `)(?:[^\w-]|$)`), right, can}
	}
	return &Guard{
		mail: kind{"email", regexp.MustCompile(`(?i)([a-z0-9][a-z0-9._%+-]{0,63}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z]{2,24})`), nil, nil},
		numbers: []kind{
			number("iban", `[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?`, iban,
				func(r run) bool { return r.letters >= 2 }),
			number("card", `\d(?:[ -]?\d){12,18}`, card,
				func(r run) bool { return r.digits >= 13 }),
			number("cpf", `\d{3}\.\d{3}\.\d{3}-\d{2}`, cpf,
				func(r run) bool { return r.digits >= 11 && r.dots >= 2 && r.dashes >= 1 }),
			number("us-ssn", `\d{3}-\d{2}-\d{4}`, ssn,
				func(r run) bool { return r.digits >= 9 && r.dashes >= 2 }),
			number("es-dni", `\d{8}-?[A-Z]`, dni,
				func(r run) bool { return r.plain >= 8 && r.letters >= 1 }),
			number("fr-nir", `[12] ?\d{2} ?[0-9]{2} ?\d[0-9AB] ?\d{3} ?\d{3} ?\d{2}`, nir,
				func(r run) bool { return r.digits >= 14 }),
			number("uk-nino", `[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]`, nil,
				func(r run) bool { return r.letters >= 3 }),
			number("phone", `\+[1-9](?:[ .()/-]{0,2}\d){7,14}|\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4}`, nil,
				func(r run) bool { return r.digits >= 8 && (r.opens > 0 || r.dashes >= 2) }),
		},
	}
}

// Find returns the personal data in a text.
func (g *Guard) Find(text string) []span.Found {
	var found []span.Found
	found = g.lookForMail(found, text)
	found = g.lookForNumbers(found, text)
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

// runs yields all runs of a text. Expressions are dear, and most of a text has no such
// part: as many digits as the shortest number has, and nothing but what numbers are
// written with.
func runs(text string) iter.Seq[run] {
	return func(yield func(run) bool) {
		for i := 0; i < len(text); i++ {
			r := run{start: i}
			for plain := 0; i < len(text) && written[text[i]]; i++ {
				plain++
				switch c := text[i]; {
				case '0' <= c && c <= '9':
					r.digits++
					r.plain = max(r.plain, plain)
					continue
				case 'A' <= c && c <= 'Z':
					r.letters++
				case c == '-':
					r.dashes++
				case c == '.':
					r.dots++
				case c == '+', c == '(':
					r.opens++
				}
				plain = 0
			}
			if r.digits < 6 {
				continue
			}
			_, before := utf8.DecodeLastRuneInString(text[:r.start])
			_, after := utf8.DecodeRuneInString(text[i:])
			if r.start, r.end = r.start-before, i+after; !yield(r) {
				return
			}
		}
	}
}

// written are the characters of numbers of all kinds.
var written = func() (set [256]bool) {
	for _, c := range "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ +-./()" {
		set[c] = true
	}
	return set
}()

// lookForMail finds mail addresses, around each @.
func (g *Guard) lookForMail(found []span.Found, text string) []span.Found {
	for end := 0; ; {
		at := strings.IndexByte(text[end:], '@')
		if at < 0 {
			return found
		}
		start := end + at
		for end = start; end < len(text) && addressed[text[end]]; {
			end++
		}
		for start > 0 && addressed[text[start-1]] {
			start--
		}
		found = g.mail.look(found, text, start, end)
	}
}

// lookForNumbers finds numbers of all kinds.
func (g *Guard) lookForNumbers(found []span.Found, text string) []span.Found {
	for r := range runs(text) {
		for i := range g.numbers {
			if k := &g.numbers[i]; k.can(r) {
				found = k.look(found, text, r.start, r.end)
			}
		}
	}
	return found
}

// addressed are the characters of mail addresses, and those beyond ASCII, some of which
// expressions take for letters.
var addressed = func() (set [256]bool) {
	for c := range set {
		set[c] = c >= utf8.RuneSelf || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' ||
			strings.IndexByte("@._%+-", byte(c)) >= 0
	}
	return set
}()

// look finds what is of the kind in a part of a text.
func (k *kind) look(found []span.Found, text string, start, end int) []span.Found {
	for at := start; at < end; {
		m := k.like.FindStringSubmatchIndex(text[at:end])
		if m == nil {
			break
		}
		from, to := at+m[2], at+m[3]
		at = to // what follows may be before the next
		if k.right == nil || k.right(bare.Replace(text[from:to])) {
			found = append(found, span.Found{Start: from, End: to, Rule: k.rule, Instead: "[removed: personal data " + k.rule + "]"})
		}
	}
	return found
}

// bare takes separators out of a number.
var bare = strings.NewReplacer(" ", "", "-", "", ".", "")
