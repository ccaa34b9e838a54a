package hidden

import "strings"

// sequence returns the length of the terminal sequence that s starts with
// (ECMA-48), 0 if it is none. What a sequence holds is not shown, so it belongs to
// it; of one that has no end only the introducer does, and the rest is text.
func sequence(s string) int {
	introducer, rest := s[0], s[1:]
	if introducer == 0x1b {
		if rest == "" {
			return 0
		}
		introducer, rest = rest[0], rest[1:]
	} else { // the C1 form in UTF-8: 0xc2 and the character
		introducer, rest = rest[0]-0x40, rest[1:]
	}
	at := len(s) - len(rest)
	switch {
	case introducer == '[':
		return at + csi(rest)
	case strings.IndexByte("]PX^_", introducer) >= 0:
		return at + untilTerminator(rest)
	case s[0] != 0x1b: // another C1 character, alone
		return 0
	case ' ' <= introducer && introducer <= '/': // such as ESC ( B
		for i := 0; i < len(rest) && i < 4; i++ {
			if '0' <= rest[i] && rest[i] <= '~' {
				return at + i + 1
			}
		}
		return at
	case '0' <= introducer && introducer <= '~':
		return at
	}
	return 0
}

// maxParameters bounds what is taken for the parameters of a control sequence.
const maxParameters = 256

// csi returns the length of parameters and the final byte.
func csi(s string) int {
	for i := 0; i < len(s) && i < maxParameters; i++ {
		switch c := s[i]; {
		case '@' <= c && c <= '~':
			return i + 1
		case c < ' ' || c > '?':
			return i
		}
	}
	return 0
}

// maxString bounds the string of an operating system command. A longer one is
// taken for one that does not end.
const maxString = 4096

// untilTerminator returns the length of a string with its terminator: BEL, ESC \
// or U+009C.
func untilTerminator(s string) int {
	s = s[:min(len(s), maxString)]
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == 0x07:
			return i + 1
		case s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\', s[i] == 0xc2 && i+1 < len(s) && s[i+1] == 0x9c:
			return i + 2
		case s[i] == 0x1b, s[i] == 0xc2 && i+1 < len(s) && s[i+1] < 0xa0: // another sequence begins
			return 0
		}
	}
	return 0
}
