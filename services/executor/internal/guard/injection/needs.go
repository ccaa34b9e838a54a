package injection

import (
	"regexp/syntax"
	"slices"
	"strings"
)

// minNeed is how long a text must be to be worth looking for, unless it is rare.
const minNeed = 3

const rare = "@"

// needs returns texts in lower case of which one is in each match of an expression,
// or none if that cannot be said of long ones. Expressions are dear, and most of a
// sign's words stand in texts that hold nothing of what would have to follow.
func needs(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		s := strings.ToLower(string(re.Rune))
		if strings.ContainsFunc(s, func(r rune) bool { return r > 127 }) || len(s) < minNeed && s != rare {
			return nil // in which case is not known
		}
		return []string{s}
	case syntax.OpCapture, syntax.OpPlus:
		return needs(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return needs(re.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, sub := range re.Sub {
			if all := needs(sub); shortest(all) > shortest(best) {
				best = all
			}
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			one := needs(sub)
			if len(one) == 0 {
				return nil
			}
			all = append(all, one...)
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	return nil
}

// shortest returns the length of the shortest text, zero if there is none.
func shortest(all []string) (n int) {
	for _, s := range all {
		if n == 0 || len(s) < n {
			n = len(s)
		}
	}
	return n
}
