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
// takes time linear in the text.
//
// A mail address in content stands for itself, and one in arguments also for mail to
// its host: content that names a host makes all its addresses suspect, and content
// that names an address no other.
func Values(text string, side Side, yield func(value string) bool) {
	s := scanner{side: side, yield: yield}
	for start := 0; start < len(text) && !s.done; {
		r, size := utf8.DecodeRuneInString(text[start:])
		if separates(r) {
			start += size
			continue
		}
		end := start + size
		for end < len(text) {
			if r, size = utf8.DecodeRuneInString(text[end:]); separates(r) {
				break
			}
			end += size
		}
		s.word(text[start:end])
		start = end
	}
	s.numbers(text)
	s.ibans(text)
}

// separates reports whether a character cannot be within a URL, an address or an id.
func separates(r rune) bool {
	switch {
	case r <= ' ', r == 0x7f, r == utf8.RuneError, r == 0xa0, r >= 0x2000 && r <= 0x206f, r == 0x3000, r == 0xfeff:
		return true
	}
	return strings.ContainsRune("\"'`<>()[]{}|\\^,;!*", r)
}

type scanner struct {
	side  Side
	buf   []byte // of ids, used again
	yield func(string) bool
	done  bool
}

func (s *scanner) emit(kind, value string) {
	if !s.done {
		s.done = !s.yield(kind + ":" + value)
	}
}

// word looks at what stands between separators.
func (s *scanner) word(w string) {
	w = strings.ToLower(strings.Trim(w, ".:?-_/&=#+~"))
	if len(w) < 4 {
		return
	}
	s.ids(w)
	rest, url := w, false
	for !s.done {
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
	if strings.ContainsAny(w, "=&/:") {
		for part := range strings.FieldsFuncSeq(w, func(r rune) bool { return strings.ContainsRune("=&?#/:", r) }) {
			s.authority(part, false)
		}
	}
}

// authority looks at what may begin with a host or be a mail address.
func (s *scanner) authority(w string, url bool) {
	if addr, ok := address(strings.Trim(w, "/")); ok {
		s.host(addr.Unmap().String())
		return
	}
	w, _, _ = cut(w, "/?#")
	local, host := "", w
	if i := strings.LastIndexByte(w, '@'); i >= 0 {
		local, host = w[:i], w[i+1:]
	}
	host, _, _ = cut(host, ":")
	if host = strings.Trim(host, ".-_"); !isHost(host) {
		return
	}
	if local == "" || url { // of a URL it is whom to log in as
		s.host(host)
		return
	}
	if j := strings.LastIndexAny(local, ":/="); j >= 0 {
		local = local[j+1:]
	}
	s.emit("mail", local+"@"+host)
	if s.side == Argument {
		s.emit("mailhost", host)
	}
}

// host tells of a host that is named on its own.
func (s *scanner) host(name string) {
	s.emit("host", strings.TrimPrefix(name, "www."))
	if s.side == Content {
		s.emit("mailhost", name)
	}
}

func cut(w, any string) (before, after string, found bool) {
	if i := strings.IndexAny(w, any); i >= 0 {
		return w[:i], w[i+1:], true
	}
	return w, "", false
}

// address reads an IP address. Most words cannot be one, and an error costs memory.
func address(w string) (netip.Addr, bool) {
	marks := false
	for i := range len(w) {
		c := w[i]
		if c == '.' || c == ':' {
			marks = true
		} else if !isDigit(c) && (c < 'a' || c > 'f') {
			return netip.Addr{}, false
		}
	}
	if !marks {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(w)
	return addr, err == nil
}

// isHost reports whether a lower-case word is the name of a host with a dot in it,
// or an IPv4 address.
func isHost(w string) bool {
	if len(w) > maxHost || !strings.Contains(w, ".") {
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
	joined, parts := s.buf[:0], 0
	defer func() { s.buf = joined }()
	flush := func() {
		if parts > 1 && !(parts == 3 && isDate(joined)) {
			s.id(string(joined))
		}
		joined, parts = joined[:0], 0
	}
	start := -1
	for i := 0; i <= len(w); i++ {
		in := i < len(w) && (w[i] >= '0' && w[i] <= '9' || w[i] >= 'a' && w[i] <= 'z' || w[i] >= utf8.RuneSelf)
		switch {
		case in && start < 0:
			start = i
		case !in && start >= 0:
			s.id(w[start:i])
			joined = append(joined, w[start:i]...)
			parts++
			start = -1
		}
		if i == len(w) || !in && w[i] != '-' && w[i] != '_' && w[i] != '.' {
			flush()
		}
	}
}

func (s *scanner) id(w string) {
	if len(w) >= minID && strings.ContainsAny(w, "0123456789") {
		s.emit("id", w)
	}
}

// maxGroups is how many groups of digits a number has at most.
const maxGroups = 8

// numbers looks for digits in groups, with blanks, dashes and the like between them:
// each number that some groups after each other make.
func (s *scanner) numbers(text string) {
	var groups [maxGroups]string // the last ones, the newest last
	count, end := 0, 0           // end of the newest
	for i := 0; i < len(text) && !s.done; i++ {
		if !isDigit(text[i]) {
			continue
		}
		start := i
		for i < len(text) && isDigit(text[i]) {
			i++
		}
		if count > 0 && !joins(text[end:start]) {
			count = 0
		}
		if count == maxGroups {
			copy(groups[:], groups[1:])
			count--
		}
		groups[count] = text[start:i]
		count, end = count+1, i
		number := ""
		for j := count - 1; j >= 0; j-- {
			if number = groups[j] + number; len(number) > maxNumber {
				break
			}
			if count-j == 3 && isDate([]byte(number)) && len(groups[j]) == 4 {
				continue
			}
			if n := strings.TrimLeft(number, "0"); len(n) >= minNumber {
				s.emit("number", n)
			}
		}
	}
}

// joins reports whether what is between two groups of digits keeps them one number.
func joins(between string) bool {
	return len(between) <= 3 && strings.Trim(between, " -.()/+") == ""
}

// isDate reports whether eight digits are a date as computers write it. Dates are in
// all texts and steer nothing.
func isDate(digits []byte) bool {
	if len(digits) != 8 {
		return false
	}
	for _, c := range digits {
		if !isDigit(c) {
			return false
		}
	}
	century, month, day := string(digits[:2]), string(digits[4:6]), string(digits[6:])
	return (century == "19" || century == "20") && month >= "01" && month <= "12" && day >= "01" && day <= "31"
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' }

// ibans looks for IBANs that are written in groups. Where they end the groups do not
// tell, so each end that is possible counts.
func (s *scanner) ibans(text string) {
	for i := 0; i < len(text) && !s.done; i++ {
		if !ibanStart(text[i:]) || i > 0 && (isLetter(text[i-1]) || isDigit(text[i-1])) {
			continue
		}
		var joined []byte
		spaced := false
		for j := i; j <= len(text) && len(joined) <= maxJoined; j++ {
			if j < len(text) && (isLetter(text[j]) || isDigit(text[j])) {
				joined = append(joined, text[j])
				continue
			}
			if spaced && len(joined) >= 14 {
				s.emit("id", strings.ToLower(string(joined)))
			}
			if j == len(text) || text[j] != ' ' && text[j] != '-' {
				break
			}
			spaced = true
		}
	}
}

// ibanStart reports whether a text begins as an IBAN does: two letters, two digits.
func ibanStart(text string) bool {
	if len(text) < 4 {
		return false
	}
	upper := func(c byte) bool { return c >= 'A' && c <= 'Z' }
	return upper(text[0]) && upper(text[1]) && isDigit(text[2]) && isDigit(text[3])
}
