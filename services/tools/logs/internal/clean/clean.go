// Package clean makes text that anybody may have written fit to be shown:
// without characters that are not seen or that steer a terminal, and without
// secrets.
//
// It does not judge what the text says. A sentence that gives orders to its
// reader stays what it was, a quotation.
package clean

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns b as visible text on one line. Terminal sequences and all
// invisible characters are removed, white space becomes a space, bytes that are
// no UTF-8 become U+FFFD.
func Text(b []byte) string {
	var out strings.Builder
	out.Grow(len(b))
	for len(b) > 0 {
		if n := sequence(b); n > 0 {
			b = b[n:]
			continue
		}
		r, size := utf8.DecodeRune(b)
		b = b[size:]
		switch {
		case r >= ' ' && r < 0x7f:
			out.WriteByte(byte(r))
		case r == '\t' || r == '\n' || r == '\r' || unicode.Is(unicode.Z, r):
			out.WriteByte(' ')
		case !hidden(r):
			out.WriteRune(r)
		}
	}
	return strings.TrimSpace(out.String())
}

// hidden reports whether a character is not seen: controls, formatting (among
// it marks of direction and zero width), tags, variation selectors, fillers,
// private use and what is not a character.
func hidden(r rune) bool {
	switch {
	case r < 0x20 || 0x7f <= r && r < 0xa0:
		return true
	case r < 0xad:
		return false
	case r == 0x2800, 0x1d173 <= r && r <= 0x1d17a, 0xfff0 <= r && r <= 0xfffb, 0xe0000 <= r && r <= 0xe0fff:
		return true // blank though not by their category, or set aside to be so
	}
	return unicode.In(r, unicode.Cf, unicode.Co, unicode.Cs, unicode.Variation_Selector,
		unicode.Other_Default_Ignorable_Code_Point, unicode.Noncharacter_Code_Point)
}

// sequence returns the length of the terminal sequence at the start of b, as
// ECMA-48 has them, with ESC or with the C1 character; zero if there is none.
func sequence(b []byte) int {
	kind, n := byte(0), 0
	switch {
	case b[0] == 0x1b && len(b) > 1:
		kind, n = b[1], 2
	case b[0] == 0xc2 && len(b) > 1 && 0x80 <= b[1] && b[1] < 0xa0:
		kind, n = b[1]-0x40, 2
	default:
		return 0
	}
	switch {
	case kind == '[':
		return n + control(b[n:])
	case kind == ']' || kind == 'P' || kind == 'X' || kind == '^' || kind == '_':
		return n + text(b[n:])
	case b[0] == 0x1b && 0x20 <= kind && kind <= 0x2f && len(b) > 2: // such as ESC ( B
		return 3
	case 0x30 <= kind && kind <= 0x7e:
		return 2
	}
	return 1
}

// control returns the length of the rest of a control sequence: parameters and
// one final byte.
func control(b []byte) int {
	n := 0
	for n < len(b) && 0x20 <= b[n] && b[n] <= 0x3f {
		n++
	}
	if n < len(b) && 0x40 <= b[n] && b[n] <= 0x7e {
		n++
	}
	return n
}

// text returns the length of the rest of a sequence that holds text, such as a
// link or something for the clipboard: up to BEL or ST. Without an end only the
// start is removed, so that nobody hides the rest of a line.
func text(b []byte) int {
	for i, c := range b {
		switch {
		case c == 0x07:
			return i + 1
		case c == 0x1b && i+1 < len(b) && b[i+1] == '\\':
			return i + 2
		case c == 0xc2 && i+1 < len(b) && b[i+1] == 0x9c:
			return i + 2
		}
	}
	return 0
}

// Cut returns the first limit bytes of s, fewer so as not to split a character,
// with an ellipsis if something is missing.
func Cut(s string, limit int) string {
	const more = "…"
	if len(s) <= limit {
		return s
	}
	n := max(0, limit-len(more))
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + more
}
