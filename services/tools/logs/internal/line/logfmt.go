package line

import "bytes"

// logfmt reads key=value pairs: at least two, the line starting with one, and
// among them one that is known. Anything less is taken for text in which an
// equals sign occurs.
func (p *Parser) logfmt(line []byte, e *Entry) bool {
	if !startsWithKey(line) {
		return false
	}
	var f fields
	p.text = p.text[:0]
	pairs := 0
	for i := 0; i < len(line); {
		if line[i] == ' ' || line[i] == '\t' {
			i++
			continue
		}
		start := i
		for i < len(line) && line[i] != '=' && line[i] != ' ' {
			i++
		}
		key := line[start:i]
		if i >= len(line) || line[i] != '=' {
			continue // a key without a value
		}
		end := pairValue(line, i+1)
		if at := f.slot(key); at != nil && end > i+1 {
			*at = p.pairText(line[i+1 : end])
		}
		pairs++
		i = end
	}
	if pairs < 2 || f.time == nil && f.level == nil && f.message == nil {
		return false
	}
	e.Format = Logfmt
	f.fill(p, line, e)
	return true
}

// startsWithKey reports whether a line starts with a word and an equals sign.
func startsWithKey(line []byte) bool {
	n := bytes.IndexByte(line, '=')
	if n < 1 || n > 64 {
		return false
	}
	for _, c := range line[:n] {
		if !isLetter(c) && !isDigit(c) && c != '_' && c != '.' && c != '-' && c != '@' {
			return false
		}
	}
	return true
}

// pairValue returns the index after the value at i. An unclosed quote takes the
// rest of the line: it is what a cut line ends with.
func pairValue(line []byte, i int) int {
	if i < len(line) && line[i] == '"' {
		if _, next := quoted(line, i); next > 0 {
			return next
		}
		return len(line)
	}
	n := bytes.IndexByte(line[i:], ' ')
	if n < 0 {
		return len(line)
	}
	return i + n
}

// pairText returns the text of a value, which is not empty.
func (p *Parser) pairText(raw []byte) []byte {
	switch {
	case raw[0] != '"':
		return raw
	case len(raw) > 1 && raw[len(raw)-1] == '"':
		return p.decode(raw)
	default:
		return raw[1:]
	}
}
