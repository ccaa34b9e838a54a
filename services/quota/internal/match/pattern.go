// Package match tells whether attributes of a caller meet the patterns of a
// rule, and what the rule counts them by.
//
// It works on single values: which attributes there are, and which rules, is
// the business of package quota.
package match

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxPattern is as long as an attribute may be.
const maxPattern = 512

// A Set is a list of patterns for one attribute. A value meets it if it meets
// none of the patterns that begin with "!", and one of the others if there are
// any. The zero Set is met by every value.
type Set struct {
	wanted   []string
	unwanted []string
	list     bool
}

// NewSet reads patterns. In each, "*" stands for any text and all else for
// itself; a leading "!" turns its meaning around.
func NewSet(patterns []string) (Set, error) {
	if len(patterns) == 0 {
		return Set{}, errors.New("has no pattern")
	}
	var s Set
	for _, p := range patterns {
		text, unwanted := strings.CutPrefix(p, "!")
		switch {
		case text == "":
			return Set{}, errors.New("has an empty pattern")
		case len(text) > maxPattern:
			return Set{}, fmt.Errorf("has a pattern of more than %d bytes", maxPattern)
		case unwanted:
			s.unwanted = append(s.unwanted, text)
		default:
			s.wanted = append(s.wanted, text)
		}
	}
	return s, nil
}

// Listed returns a set that takes a value for a comma-separated list: one part
// must meet a wanted pattern, and none an unwanted one.
func (s Set) Listed() Set {
	s.list = true
	return s
}

// Match reports whether value meets the set. An absent attribute is the empty
// value, which meets no wanted pattern, not even "*": to be limited only where
// an attribute is present, a rule says "*".
func (s Set) Match(value string) bool {
	if !s.list {
		return !s.any(s.unwanted, value) && (len(s.wanted) == 0 || s.any(s.wanted, value))
	}
	found := len(s.wanted) == 0
	for part := range strings.SplitSeq(value, ",") {
		if s.any(s.unwanted, part) {
			return false
		}
		found = found || s.any(s.wanted, part)
	}
	return found
}

// Literals returns the values that the set names in full, for an index.
func (s Set) Literals() []string {
	all := slices.Concat(s.wanted, s.unwanted)
	return slices.DeleteFunc(all, func(p string) bool { return strings.Contains(p, "*") })
}

// Only reports whether no value but the literals can meet the set.
func (s Set) Only() bool {
	return len(s.wanted) > 0 && !slices.ContainsFunc(s.wanted, func(p string) bool { return strings.Contains(p, "*") })
}

func (s Set) any(patterns []string, value string) bool {
	for _, p := range patterns {
		if value != "" && glob(p, value) {
			return true
		}
	}
	return false
}

// glob goes back to the last star only: the leftmost place for the text between
// two stars is never worse than another. So it takes no more than pattern times
// value steps, whatever they are.
func glob(pattern, value string) bool {
	p, v, star, mark := 0, 0, -1, 0
	for v < len(value) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, v
			p++
		case p < len(pattern) && pattern[p] == value[v]:
			p++
			v++
		case star >= 0:
			mark++
			p, v = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
