package taint

import (
	"unicode/utf8"
)

// What an ASCII character can be.
const (
	separator uint16 = 1 << iota // it is in no URL, address or id
	digit
	dot
	colon
	slash
	query // it ends what is before it in a URL
	joint // it joins what is before it to something else
	edge  // it is not counted in at either end of a word
	rim   // nor of a host
)

// classes are those of each character; there is nothing for any but ASCII.
var classes = func() (table [256]uint16) {
	for class, all := range map[uint16]string{
		separator: "\"'`<>()[]{}|\\^,;!*\x7f", digit: "0123456789", dot: ".", colon: ":", slash: "/", query: "?#",
		joint: "=&/:", edge: ".:?-_/&=#+~", rim: ".-_",
	} {
		for i := range len(all) {
			table[all[i]] |= class
		}
	}
	for c := range ' ' + 1 {
		table[c] |= separator
	}
	return table
}()

// separates reports whether a character that is not ASCII cannot be within a URL, an
// address or an id.
func separates(r rune) bool {
	return r == utf8.RuneError || r == 0xa0 || r >= 0x2000 && r <= 0x206f || r == 0x3000 || r == 0xfeff
}

// trim cuts characters of a class off both ends.
func trim(w string, class uint16) string {
	for len(w) > 0 && classes[w[0]]&class != 0 {
		w = w[1:]
	}
	for len(w) > 0 && classes[w[len(w)-1]]&class != 0 {
		w = w[:len(w)-1]
	}
	return w
}

// until returns where the first character of some classes is, or the length.
func until(w string, class uint16) int {
	for i := range len(w) {
		if classes[w[i]]&class != 0 {
			return i
		}
	}
	return len(w)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' }

func hasDigit(w string) bool { return until(w, digit) < len(w) }
