// Package hidden finds characters that a person does not see and a model or a
// terminal does: Unicode tags, bidirectional overrides, terminal sequences,
// zero-width characters, variation selectors. What belongs to an emoji, or to the
// way a script is written, is left alone.
package hidden

import (
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// Guard finds hidden characters. It is safe for concurrent use.
type Guard struct {
	basic [1 << 13]byte // a bit for each of U+0000 to U+FFFF: is it hidden?
}

// New returns a guard.
func New() *Guard {
	g := &Guard{}
	mark := func(r rune) {
		if ignorable(r) {
			g.basic[r>>3] |= 1 << (r & 7)
		}
	}
	for r := range rune(0xa0) {
		mark(r)
	}
	for _, table := range ignorables {
		for _, in := range table.R16 {
			for r := rune(in.Lo); r <= rune(in.Hi); r += rune(in.Stride) {
				mark(r)
			}
		}
	}
	return g
}

// ignorables hold the characters that usually have no shape of their own.
var ignorables = []*unicode.RangeTable{unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector}

// ignorable reports whether a character usually has no shape of its own.
func ignorable(r rune) bool {
	switch {
	case r == '\t', r == '\n', r == '\r', r == '\f':
		return false
	case r < ' ', 0x7f <= r && r < 0xa0:
		return true
	case unicode.Is(unicode.Prepended_Concatenation_Mark, r): // Arabic number signs, which are seen
		return false
	}
	return unicode.In(r, ignorables...)
}

func (g *Guard) hidden(r rune) bool {
	if r < 1<<16 {
		return g.basic[r>>3]&(1<<(r&7)) != 0
	}
	return ignorable(r)
}

// Controls finds what hides an instruction or plays with a reader: tags, bidi
// embeddings, overrides and isolates, terminal sequences, and runs of variation
// selectors, which carry bytes. None of it is in text that people write.
func (g *Guard) Controls(text string) []span.Found { return g.find(text, true) }

// Invisibles finds all other hidden characters: zero-width ones, control
// characters, joiners and selectors where they join and select nothing. They are
// in honest text too.
func (g *Guard) Invisibles(text string) []span.Found { return g.find(text, false) }

// find walks a text once. Neighbours of the same kind are one finding.
func (g *Guard) find(text string, controls bool) []span.Found {
	var found []span.Found
	for i := 0; i < len(text); {
		if c := text[i]; c < utf8.RuneSelf && g.basic[c>>3]&(1<<(c&7)) == 0 {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		if !g.hidden(r) {
			i += n
			continue
		}
		rule, n := kind(text, i, r, n)
		if rule != "" && isControl(rule) == controls {
			if last := len(found) - 1; last >= 0 && found[last].End == i && found[last].Rule == rule {
				found[last].End = i + n
			} else {
				found = append(found, span.Found{Start: i, End: i + n, Rule: rule})
			}
		}
		i += n
	}
	return found
}

// Rules, as they are on record.
const (
	tags      = "tags"
	bidi      = "bidi"
	terminal  = "terminal-sequence"
	selectors = "variation-selectors"
	selector  = "variation-selector"
	zeroWidth = "zero-width"
	control   = "control-character"
)

func isControl(rule string) bool {
	return rule == tags || rule == bidi || rule == terminal || rule == selectors
}

// kind says what the hidden character r at i is, and how long it is with what
// belongs to it. It is "" for one that is where it belongs.
func kind(text string, i int, r rune, n int) (string, int) {
	switch {
	case r == 0x1b, 0x80 <= r && r < 0xa0:
		if length := sequence(text[i:]); length > 0 {
			return terminal, length
		}
		return control, n
	case r < 0xa0:
		return control, n
	case 0xe0000 <= r && r <= 0xe007f:
		if length := flagRest(text, i); length > 0 {
			return "", length
		}
		return tags, n
	case 0x202a <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069:
		return bidi, n
	case unicode.Is(unicode.Variation_Selector, r):
		return selectorAt(text, i, r, n)
	case belongs(text, i, r, n):
		return "", n
	}
	return zeroWidth, n
}
