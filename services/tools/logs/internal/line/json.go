package line

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// json reads a JSON object. It looks at the members of the outermost object
// only, decodes only the few strings it needs and allocates nothing; that is
// why it is not encoding/json, which takes ten times as long. It does not check
// what it skips beyond brackets and quotes.
func (p *Parser) json(line []byte, cut bool, e *Entry) bool {
	var f fields
	p.text = p.text[:0]
	ok := p.members(line, &f)
	// Of a cut object we have seen the first members.
	if !ok && !(cut && len(f.time) > 0) {
		return false
	}
	e.Format = JSON
	f.fill(p, line, e)
	return true
}

// members fills f from the members of an object that is all of b, and reports
// whether it is one.
func (p *Parser) members(b []byte, f *fields) bool {
	i := space(b, 1)
	if i < len(b) && b[i] == '}' {
		return space(b, i+1) == len(b)
	}
	for i < len(b) {
		key, next := quoted(b, i)
		if next < 0 {
			return false
		}
		i = space(b, next)
		if i >= len(b) || b[i] != ':' {
			return false
		}
		i = space(b, i+1)
		end := value(b, i)
		if end < 0 {
			return false
		}
		if at := f.slot(key); at != nil {
			*at = p.decode(b[i:end])
		}
		i = space(b, end)
		if i >= len(b) {
			return false
		}
		if b[i] == '}' {
			return space(b, i+1) == len(b)
		}
		if b[i] != ',' {
			return false
		}
		i = space(b, i+1)
	}
	return false
}

// space returns the index of the first byte from i on that is not white.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// quoted returns what is between the quotes of the string at i, escapes and
// all, and the index after it, which is negative if there is no string.
func quoted(b []byte, i int) (text []byte, next int) {
	if i >= len(b) || b[i] != '"' {
		return nil, -1
	}
	start := i + 1
	for i = start; ; {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return nil, -1
		}
		i += n
		// The quote is escaped if an odd number of backslashes precedes it.
		back := i
		for back > start && b[back-1] == '\\' {
			back--
		}
		i++
		if (i-1-back)%2 == 0 {
			return b[start : i-1], i
		}
	}
}

// value returns the index after the value at i, negative if there is none.
// Numbers, true, false and null are not told from other words.
func value(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		_, next := quoted(b, i)
		return next
	case '{', '[':
		return nested(b, i)
	}
	start := i
	for i < len(b) && (isDigit(b[i]) || isLetter(b[i]) || b[i] == '-' || b[i] == '+' || b[i] == '.') {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// nested returns the index after the object or array at i. The depth is not
// bounded, as it costs nothing here; the length of the line is.
func nested(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			_, next := quoted(b, i)
			if next < 0 {
				return -1
			}
			i = next
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// decode returns the text of a value: that of a string, else the value as it is
// written. Null is no text.
func (p *Parser) decode(raw []byte) []byte {
	if raw[0] != '"' {
		if string(raw) == "null" {
			return nil
		}
		return raw
	}
	raw = raw[1 : len(raw)-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	start := len(p.text)
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			p.text = append(p.text, raw[i])
			i++
			continue
		}
		i += p.escape(raw[i:])
	}
	return p.text[start:len(p.text):len(p.text)]
}

// escape appends what the escape at the start of b stands for and returns its
// length. An unknown escape stands for itself.
func (p *Parser) escape(b []byte) int {
	if len(b) < 2 {
		p.text = append(p.text, b...)
		return len(b)
	}
	switch c := b[1]; c {
	case 'n':
		p.text = append(p.text, '\n')
	case 't':
		p.text = append(p.text, '\t')
	case 'r':
		p.text = append(p.text, '\r')
	case 'b':
		p.text = append(p.text, '\b')
	case 'f':
		p.text = append(p.text, '\f')
	case 'u':
		r, size := unit(b), 6
		if r < 0 {
			p.text = append(p.text, '\\', 'u')
			return 2
		}
		if utf16.IsSurrogate(r) {
			r = utf16.DecodeRune(r, unit(b[6:]))
			if r != utf8.RuneError {
				size = 12
			}
		}
		p.text = utf8.AppendRune(p.text, r)
		return size
	default:
		p.text = append(p.text, c)
	}
	return 2
}

// unit reads an escape such as \u00e9 at the start of b; it is negative if there
// is none.
func unit(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}
