package template

import "bytes"

// wildcard stands for what changes from line to line.
const wildcard = "<*>"

// Bounds of what is looked at: a message that differs only after its first
// kilobyte, or in its fiftieth word, is the same kind of message.
const (
	maxMessage = 1024
	maxTokens  = 50
)

// masker splits messages into words and puts wildcards for what is certain to
// change: numbers, identifiers, addresses, quoted text, values of keys.
type masker struct {
	text []byte // the masked words, one space after each
	ends []int  // where each ends in text
}

// mask reads a message. Its result is in m until the next call.
func (m *masker) mask(message []byte) {
	m.text, m.ends = m.text[:0], m.ends[:0]
	whole := len(message) <= maxMessage
	message = message[:min(len(message), maxMessage)]
	for i := 0; i < len(message); {
		if isSpace(message[i]) {
			i++
			continue
		}
		if len(m.ends) == maxTokens {
			whole = false
			break
		}
		i = m.word(message, i)
		m.ends = append(m.ends, len(m.text))
		m.text = append(m.text, ' ')
	}
	if !whole {
		m.text = append(m.text, wildcard...)
		m.ends = append(m.ends, len(m.text))
		m.text = append(m.text, ' ')
	}
}

// tokens returns how many words there are.
func (m *masker) tokens() int { return len(m.ends) }

// token returns the word at i.
func (m *masker) token(i int) []byte {
	if i == 0 {
		return m.text[:m.ends[0]]
	}
	return m.text[m.ends[i-1]+1 : m.ends[i]]
}

// word masks the word that starts at i and returns the index after it.
func (m *masker) word(b []byte, i int) int {
	start := len(m.text)
	fresh := true // a quote here would open, not be an apostrophe
	for i < len(b) && !isSpace(b[i]) {
		c := b[i]
		switch {
		case fresh && isQuote(c):
			if n := bytes.IndexByte(b[i+1:], c); n >= 0 {
				m.text = append(append(append(m.text, c), wildcard...), c)
				i += n + 2
				fresh = false
				continue
			}
			m.text = append(m.text, c)
			i++
		case isAlnum(c):
			i = m.run(b, i)
			fresh = false
		case c == '=' && m.isKey(start) && i+1 < len(b) && !isSpace(b[i+1]):
			m.text = append(m.text, c)
			i = m.value(b, i+1)
			fresh = false
		default:
			m.text = append(m.text, c)
			i++
			fresh = c == '=' || c == ':' || c == '(' || c == '[' || c == '{' || c == ','
		}
	}
	return i
}

// isKey reports whether the word so far can be the key of a value.
func (m *masker) isKey(start int) bool {
	for _, c := range m.text[start:] {
		if !isAlnum(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return len(m.text) > start
}

// value masks the value at i whatever it is, and returns the index after it.
func (m *masker) value(b []byte, i int) int {
	m.text = append(m.text, wildcard...)
	if c := b[i]; isQuote(c) {
		if n := bytes.IndexByte(b[i+1:], c); n >= 0 {
			return i + n + 2
		}
	}
	for i < len(b) && !isSpace(b[i]) && b[i] != ',' && b[i] != ';' && b[i] != ')' && b[i] != ']' && b[i] != '}' {
		i++
	}
	return i
}

// run masks the letters and digits from i on and returns the index after them.
func (m *masker) run(b []byte, i int) int {
	if n := max(address(b[i:]), uuid(b[i:])); n > 0 {
		m.wild()
		return i + n
	}
	start, digits, hex := i, 0, true
	for i < len(b) && isAlnum(b[i]) {
		switch c := b[i]; {
		case isDigit(c):
			digits++
		case !isHex(c):
			hex = false
		}
		i++
	}
	run := b[start:i]
	switch {
	case digits == 0:
		m.text = append(m.text, run...)
	case digits == len(run), hex && len(run) >= 6, len(run) >= 16, bytes.HasPrefix(run, []byte("0x")):
		m.wild()
	default:
		m.letters(run)
	}
	return i
}

// address returns the length of the IPv6 address at the start of b, zero if there
// is none. A time of day passes too, and may.
func address(b []byte) int {
	n, colons, digits := 0, 0, 0
	for ; n < len(b) && (isHex(b[n]) || b[n] == ':' || b[n] == '.'); n++ {
		switch {
		case b[n] == ':':
			colons++
		case isDigit(b[n]):
			digits++
		}
	}
	if colons < 2 || digits == 0 || n < len(b) && isAlnum(b[n]) {
		return 0
	}
	return len(bytes.TrimRight(b[:n], ":."))
}

// uuid returns the length of the UUID at the start of b, zero if there is none.
func uuid(b []byte) int {
	const size = len("00000000-0000-0000-0000-000000000000")
	if len(b) < size || len(b) > size && isAlnum(b[size]) {
		return 0
	}
	for i, c := range b[:size] {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !isHex(c) {
			return 0
		}
	}
	return size
}

// letters appends a run with its digits masked.
func (m *masker) letters(run []byte) {
	for i := 0; i < len(run); {
		if !isDigit(run[i]) {
			m.text = append(m.text, run[i])
			i++
			continue
		}
		for i < len(run) && isDigit(run[i]) {
			i++
		}
		m.wild()
	}
}

// wild appends a wildcard. If all that divides it from another is punctuation
// as in numbers, times, addresses and identifiers, the two become one.
func (m *masker) wild() {
	if m.continues() {
		m.text = m.text[:bytes.LastIndexByte(m.text, '>')+1]
		return
	}
	m.text = append(m.text, wildcard...)
}

// continues reports whether the text ends with a wildcard and such punctuation.
func (m *masker) continues() bool {
	b := m.text
	for n := 0; n < 2 && len(b) > 0 && joins(b[len(b)-1]); n++ {
		b = b[:len(b)-1]
	}
	return bytes.HasSuffix(b, []byte(wildcard))
}

func joins(c byte) bool { return c == '.' || c == ':' || c == '-' || c == '+' || c == '_' }

func isQuote(c byte) bool { return c == '"' || c == '\'' || c == '`' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }

func isAlnum(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z' }

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
