// Package taint finds the values in texts that can steer a tool, and keeps what a
// context has seen: the labels of its contents, and hashes of the values that first
// came from content nobody vouches for.
//
// The executor writes it, auth reads it; both must see the same values in the same
// text, so what a value is stands here. It is a net with holes: a model can write a
// value in other words, and then it is not found. That content was seen at all is
// known either way.
package taint

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

const (
	// minID is how long a run of letters and digits must be, with a digit in it, to
	// be an id.
	minID = 8
	// minNumber and maxNumber bound the digits of what may be a telephone number, a
	// card or an account, written in groups.
	minNumber, maxNumber = 7, 24
	// maxHost is the longest name of a host.
	maxHost = 253
	// maxJoined is the longest id that may be written in groups, an IBAN.
	maxJoined = 34
)

// Side says what a text is looked at for.
type Side int

const (
	// Content is what a tool has given.
	Content Side = iota
	// Argument is what a tool is called with.
	Argument
)

// Values calls yield with each value in a text that can steer a tool, in one normal
// form, perhaps repeatedly, until it returns false: hosts (of URLs, or alone), mail
// addresses, numbers of seven digits and more however they are grouped, and ids. It
// takes time linear in the text. A value is good until yield returns.
//
// A mail address in content stands for itself, and one in arguments also for mail to
// its host: content that names a host makes all its addresses suspect, and content
// that names an address no other.
func Values(text string, side Side, yield func(value []byte) bool) {
	s := scanner{side: side, yield: yield}
	s.text(text)
}

// scanner looks for values in one text after another. Most words hold none, and that
// is told by their characters, while they are read: only words with a digit, a dot or
// a colon are looked at more closely.
type scanner struct {
	side  Side
	yield func(value []byte) bool
	named func(name string, value []byte) bool // in its place, if it is not nil
	name  string                               // of the argument
	done  bool

	value  []byte // that was told last, used again
	joined []byte // of ids in groups, used again
	groups [maxGroups]group
	count  int // of groups
}

// text looks at a text.
func (s *scanner) text(text string) {
	s.count = 0
	for i := 0; i < len(text) && !s.done; {
		start, seen := i, uint16(0)
		for i < len(text) {
			c := text[i]
			if c < utf8.RuneSelf {
				if classes[c]&separator != 0 {
					break
				}
				seen |= classes[c]
				i++
				continue
			}
			r, size := utf8.DecodeRuneInString(text[i:])
			if separates(r) {
				break
			}
			i += size
		}
		if seen&(digit|dot|colon) != 0 {
			s.word(text[start:i])
		}
		if seen&digit != 0 {
			s.numbers(text, start, i)
		}
		if i < len(text) {
			_, size := utf8.DecodeRuneInString(text[i:])
			i += size
		}
	}
}

// tell yields a value.
func (s *scanner) tell(value []byte) {
	switch {
	case s.done:
	case s.named != nil:
		s.done = !s.named(s.name, value)
	default:
		s.done = !s.yield(value)
	}
}

// emit yields a value that is put together.
func (s *scanner) emit(parts ...string) {
	s.value = s.value[:0]
	for _, p := range parts {
		s.value = append(s.value, p...)
	}
	s.tell(s.value)
}

// word looks at what stands between separators.
func (s *scanner) word(w string) {
	w = trim(w, edge)
	seen, colons := uint16(0), 0
	for i := range len(w) {
		class := classes[w[i]]
		if seen |= class; class&colon != 0 {
			colons++
		}
	}
	names := seen&dot != 0 || colons > 1 // nothing else can name a host
	if len(w) < 4 || !names && seen&digit == 0 {
		return
	}
	w = strings.ToLower(w)
	if seen&digit != 0 && len(w) >= minID {
		s.ids(w)
	}
	if !names {
		return
	}
	rest, url := w, false
	for colons > 0 && !s.done {
		// One URL may stand within another, as in ?next=https://…
		i := strings.Index(rest, "://")
		if i < 0 {
			break
		}
		rest, url = rest[i+3:], true
		s.authority(rest, true)
	}
	if !url {
		s.authority(w, false)
	}
	// What is joined to something else by one of these: mailto:a@b, to=a@b, 1.2.3.4/8.
	if seen&joint == 0 {
		return
	}
	for len(w) > 0 {
		end := until(w, joint|query)
		s.authority(w[:end], false)
		w = w[min(end+1, len(w)):]
	}
}

// authority looks at what may begin with a host or be a mail address.
func (s *scanner) authority(w string, url bool) {
	if addr, ok := address(strings.Trim(w, "/")); ok {
		s.host(addr.Unmap().String())
		return
	}
	w = w[:until(w, slash|query)]
	local, host := "", w
	if i := strings.LastIndexByte(w, '@'); i >= 0 {
		local, host = w[:i], w[i+1:]
	}
	host = trim(host[:until(host, colon)], rim)
	if !isHost(host) {
		return
	}
	if local == "" || url { // of a URL it is whom to log in as
		s.host(host)
		return
	}
	if j := strings.LastIndexAny(local, ":/="); j >= 0 {
		local = local[j+1:]
	}
	s.emit("mail:", local, "@", host)
	if s.side == Argument {
		s.emit("mailhost:", host)
	}
}

// host tells of a host that is named on its own.
func (s *scanner) host(name string) {
	s.emit("host:", strings.TrimPrefix(name, "www."))
	if s.side == Content {
		s.emit("mailhost:", name)
	}
}

// address reads an IP address. Most words cannot be one, and an error costs memory.
func address(w string) (netip.Addr, bool) {
	dots, colons := 0, 0
	for i := range len(w) {
		switch c := w[i]; {
		case c == '.':
			dots++
		case c == ':':
			colons++
		case !isDigit(c) && (c < 'a' || c > 'f'):
			return netip.Addr{}, false
		}
	}
	switch {
	case colons == 0 && dots == 3:
	case colons == 7 && dots == 0, colons == 6 && dots == 3:
	case colons >= 2 && colons <= 8 && (dots == 0 || dots == 3) && strings.Contains(w, "::"):
	default:
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(w)
	return addr, err == nil
}

// isHost reports whether a lower-case word is the name of a host with a dot in it,
// or an IPv4 address.
func isHost(w string) bool {
	if len(w) > maxHost || strings.IndexByte(w, '.') < 0 {
		return false
	}
	if _, ok := address(w); ok {
		return true
	}
	label, letter := 0, false // of the last label
	for _, r := range w {
		switch {
		case r == '.':
			if label == 0 {
				return false
			}
			label, letter = 0, false
			continue
		case r >= 'a' && r <= 'z', r >= utf8.RuneSelf:
			letter = true
		case r >= '0' && r <= '9', r == '-', r == '_':
		default:
			return false
		}
		label++
	}
	return label >= 2 && letter
}

// ids looks at the runs of letters and digits in a word, each alone, and together
// where only dashes, underscores and dots are between them.
func (s *scanner) ids(w string) {
	const kind = "id:"
	s.joined = append(s.joined[:0], kind...)
	parts, start, digits := 0, -1, false
	for i := 0; i <= len(w); i++ {
		in := i < len(w) && (w[i] >= '0' && w[i] <= '9' || w[i] >= 'a' && w[i] <= 'z' || w[i] >= utf8.RuneSelf)
		switch {
		case in && start < 0:
			start = i
		case !in && start >= 0:
			if run := w[start:i]; len(run) >= minID && hasDigit(run) {
				s.emit(kind, run)
			}
			digits = digits || hasDigit(w[start:i])
			s.joined = append(s.joined, w[start:i]...)
			parts++
			start = -1
		}
		if i == len(w) || !in && w[i] != '-' && w[i] != '_' && w[i] != '.' {
			all := s.joined[len(kind):]
			if parts > 1 && digits && len(all) >= minID && !(parts == 3 && isDate(all)) {
				s.tell(s.joined)
			}
			s.joined, parts, digits = s.joined[:len(kind)], 0, false
		}
	}
}
