package secret

import (
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
)

// infinite is the length of what has no bound.
const infinite = 1 << 20

// longest returns how long a match can be, in bytes of ASCII, at most infinite.
func longest(re *syntax.Regexp) int {
	n := 0
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		n = 1
	case syntax.OpCapture, syntax.OpQuest:
		n = longest(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			n += longest(sub)
		}
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			n = max(n, longest(sub))
		}
	case syntax.OpRepeat:
		if re.Max < 0 {
			return infinite
		}
		n = re.Max * longest(re.Sub[0])
	case syntax.OpStar, syntax.OpPlus:
		// Runs of spaces are unbounded in some rules and short in life.
		if re.Sub[0].String() == `[\t-\n\f-\r ]` || re.Sub[0].String() == `\s` {
			return 32
		}
		return infinite
	}
	return min(n, infinite)
}

// startsWith reports whether every match of an expression starts with one of the
// keywords.
func startsWith(re *syntax.Regexp, keywords []string) bool {
	all, _ := heads(re)
	return !slices.ContainsFunc(all, func(head string) bool {
		return !slices.ContainsFunc(keywords, func(k string) bool { return strings.HasPrefix(head, k) })
	})
}

// maxHeads bounds how many beginnings of an expression are told apart.
const maxHeads = 256

// heads returns texts in lower case of which one is at the beginning of each match;
// whole says that they are whole matches.
func heads(re *syntax.Regexp) (all []string, whole bool) {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{strings.ToLower(string(re.Rune))}, true
	case syntax.OpCapture:
		return heads(re.Sub[0])
	case syntax.OpEmptyMatch, syntax.OpWordBoundary:
		return []string{""}, true
	case syntax.OpCharClass:
		return class(re.Rune)
	case syntax.OpConcat:
		all = []string{""}
		for _, sub := range re.Sub {
			next, whole := heads(sub)
			if len(all)*len(next) > maxHeads {
				return all, false
			}
			var joined []string
			for _, a := range all {
				for _, b := range next {
					joined = append(joined, a+b)
				}
			}
			if all = joined; !whole {
				return all, false
			}
		}
		return all, true
	case syntax.OpAlternate, syntax.OpQuest:
		whole = true
		if re.Op == syntax.OpQuest {
			all = []string{""}
		}
		for _, sub := range re.Sub {
			next, w := heads(sub)
			all, whole = append(all, next...), whole && w
		}
		return all, whole
	}
	return []string{""}, false
}

// class returns the characters of a small class. Of those that only case folding
// brings in, such as the Kelvin sign, nothing is known.
func class(pairs []rune) ([]string, bool) {
	var all []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1]-pairs[i] > 8 {
			return []string{""}, false
		}
		for r := pairs[i]; r <= pairs[i+1]; r++ {
			if s := string(unicode.ToLower(r)); r <= unicode.MaxASCII && !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	if len(all) == 0 {
		return []string{""}, false
	}
	return all, true
}
