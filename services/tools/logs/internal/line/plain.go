package line

import "bytes"

// plain reads text behind a time, which may be in brackets.
func (p *Parser) plain(line []byte, e *Entry) bool {
	b := line
	if b[0] == '[' {
		b = b[1:]
	}
	ns, size, ok := p.iso(b)
	if !ok {
		return false
	}
	b = b[size:]
	if line[0] == '[' {
		if len(b) == 0 || b[0] != ']' {
			return false
		}
		b = b[1:]
	}
	if len(b) > 0 && (isDigit(b[0]) || isLetter(b[0])) {
		return false // the time was a part of something longer
	}
	e.Format, e.Time, e.Dated = Plain, ns, true
	e.Message = bytes.TrimLeft(b, " \t:|-")
	level, ok := marked(e.Message)
	if !ok {
		level = guess(e.Message)
	}
	e.Level = level
	return true
}

// marked looks for a level among the first words of a text: one in capitals, or
// one set off by punctuation, as in INFO, [info], info:, <error> and app.ERROR:.
func marked(text []byte) (Level, bool) {
	rest := text
	for range 4 {
		var word []byte
		if word, rest = field(rest); len(word) == 0 {
			break
		}
		bare := bytes.Trim(word, "[]()<>|:,-*")
		if i := bytes.LastIndexByte(bare, '.'); i >= 0 {
			bare = bare[i+1:]
		}
		if len(bare) < 3 || len(bare) == len(word) && bytes.ContainsFunc(bare, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			continue
		}
		if l, ok := named(bare); ok {
			return l, true
		}
	}
	return Info, false
}
