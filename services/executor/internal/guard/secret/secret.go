// Package secret finds credentials in texts by the rules of gitleaks
// (gitleaks.toml, MIT, see gitleaks.LICENSE), as they are and encoded once in
// base64, hexadecimal or percent signs.
//
// The rules are data; gitleaks itself is a program and brings along much that has no
// place in a service. What of its rules is about files is left out. A rule is tried only
// where one of its keywords stands, and there on so much text as it can match.
package secret

import (
	"math"
	"slices"
	"strings"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/words"
)

// Guard finds secrets. It is safe for concurrent use.
type Guard struct {
	rules  []*rule
	words  *words.Words
	global []*allowlist
}

// New reads the rules.
func New() (*Guard, error) {
	rules, global, err := read()
	if err != nil {
		return nil, err
	}
	g := &Guard{rules: rules, global: global}
	all := make(map[string][]int)
	for i, r := range rules {
		for _, k := range r.keywords {
			all[k] = append(all[k], i)
		}
	}
	g.words = words.New(all)
	return g, nil
}

// Find returns the secrets in a text. Many are told only by what they are called, so
// name is that of the JSON member whose value the text is, or empty.
func (g *Guard) Find(name, text string) []span.Found {
	// In a URL a value ends with "&", which the rules do not know; they know ";".
	text = strings.ReplaceAll(text, "&", ";")
	var found []span.Found
	if name != "" && g.words.Any(name) {
		before := name + `="`
		found = g.plain(before + text + `"`)
		found = shift(found, len(before), len(text))
	} else {
		found = g.plain(text)
	}
	found = append(found, g.encoded(text)...)
	return merge(found)
}

// generic is the rule that all others say more than.
const generic = "generic-api-key"

// shift moves what was found to where it is without the text before.
func shift(found []span.Found, before, size int) []span.Found {
	kept := found[:0]
	for _, f := range found {
		f.Start, f.End = max(f.Start-before, 0), min(f.End-before, size)
		if f.Start < f.End {
			kept = append(kept, f)
		}
	}
	return kept
}

// merge sorts what was found, and makes one of what overlaps.
func merge(found []span.Found) []span.Found {
	slices.SortStableFunc(found, func(a, b span.Found) int { return a.Start - b.Start })
	kept := found[:0]
	for _, f := range found {
		if last := len(kept) - 1; last >= 0 && f.Start < kept[last].End {
			kept[last].End = max(kept[last].End, f.End)
			if kept[last].Rule == generic {
				kept[last].Rule = f.Rule
			}
			continue
		}
		kept = append(kept, f)
	}
	for i := range kept {
		kept[i].Instead = "[removed: secret " + kept[i].Rule + "]"
	}
	return kept
}

// Trials go over so much text at most for one text, beside so many times its length.
// What is beyond is not looked at and counts as a secret. Within a run without a space
// or a quote there are so many trials, beside one for so many bytes; others are left
// out: a run with more keywords is no assignment.
const (
	budget        = 128 << 10
	budgetPerByte = 12
	perRun        = 8
	bytesPerTrial = 64
)

// delimiters end what can be a secret with its name.
const delimiters = " \t\r\n\"'`;"

// unscanned is the rule of text that was made to be costly.
const unscanned = "unscanned"

// plain returns the secrets that stand in a text as they are, in any order.
func (g *Guard) plain(text string) (found []span.Found) {
	left := budget + budgetPerByte*len(text)
	runEnd, trials := 0, 0
	g.words.Each(text, func(i, start, end int) bool {
		r := g.rules[i]
		if r.anchored && r.boundary && start > 0 && wordByte(text[start-1]) {
			return true
		}
		if start >= runEnd {
			runEnd = len(text)
			if n := strings.IndexAny(text[start:], delimiters); n >= 0 {
				runEnd = start + n + 1
			}
			trials = perRun + (runEnd-start)/bytesPerTrial
		}
		if trials--; trials < 0 {
			return true
		}
		from, to := start, min(len(text), start+r.reach)
		if !r.anchored {
			from, to = max(0, start-r.reach), min(len(text), end+r.reach)
		} else if r.word {
			to = min(to, runEnd)
		}
		extent := to - from
		if !r.costly {
			extent = min(extent, runEnd-start) // it ends soon
		}
		if left -= extent; left < 0 {
			found = append(found, span.Found{Start: start, End: len(text), Rule: unscanned})
			return false
		}
		for from < to {
			at := r.find(text[from:to])
			if at == nil {
				break
			}
			if f, ok := g.judge(r, text, from, to, at); ok {
				found = append(found, f)
			}
			from += max(at[1], 1)
			if r.anchored {
				break
			}
		}
		return true
	})
	return found
}

// maxName is how much of a name is looked at before a keyword, as in gitleaks.
const maxName = 50

// judge makes a finding of a match of a rule in text[from:to], unless its entropy is
// low or it is allowed.
func (g *Guard) judge(r *rule, text string, from, to int, at []int) (span.Found, bool) {
	start, end := at[0], at[1]
	for k := 1; k < len(at)/2; k++ {
		if r.group != 0 && r.group != k || at[2*k] < 0 || at[2*k] == at[2*k+1] {
			continue
		}
		start, end = at[2*k], at[2*k+1]
		break
	}
	start, end = from+start, from+end
	// Lists of what is allowed know the whole name that a keyword is in.
	before := from + at[0]
	for before > 0 && from+at[0]-before < maxName && (wordByte(text[before-1]) || text[before-1] == '.' || text[before-1] == '-') {
		before--
	}
	secret, match := text[start:end], text[before:from+at[1]]
	if r.entropy > 0 && entropy(secret) <= r.entropy {
		return span.Found{}, false
	}
	for _, list := range [][]*allowlist{g.global, r.allowed} {
		for _, a := range list {
			if a.allows(secret, match, text, start) {
				return span.Found{}, false
			}
		}
	}
	if end == to { // it was cut off
		for end < len(text) && !strings.ContainsRune(" \t\r\n\"'`;<>", rune(text[end])) {
			end++
		}
	}
	return span.Found{Start: start, End: end, Rule: r.id}, true
}

// entropy is Shannon's, in bits for each byte.
func entropy(s string) (bits float64) {
	var counts [256]int
	for i := range len(s) {
		counts[s[i]]++
	}
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(s))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}

func wordByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}
