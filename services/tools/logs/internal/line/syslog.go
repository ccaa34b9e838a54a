package line

import "bytes"

// syslog reads what follows RFC 5424, or RFC 3164 with or without the priority:
// daemons leave that away when they write to a file.
func (p *Parser) syslog(line []byte, e *Entry) bool {
	stated := false
	if line[0] == '<' {
		end := bytes.IndexByte(line[:min(len(line), 5)], '>')
		if end < 0 {
			return false
		}
		priority, ok := number(line[1:end])
		if !ok || priority > 191 {
			return false
		}
		stated = true
		e.Level = severity(priority % 8)
		line = line[end+1:]
		if len(line) > 1 && line[0] == '1' && line[1] == ' ' {
			return p.syslog5424(line[2:], e)
		}
	}
	ns, size, ok := p.stamp(line)
	if !ok {
		// RFC 3164 with a modern time, as rsyslog forwards it.
		ns, size, ok = p.iso(line)
	}
	if !ok || size >= len(line) || line[size] != ' ' {
		return false
	}
	_, message := field(line[size+1:])
	e.Format, e.Time, e.Dated = Syslog, ns, true
	p.tagged(message, stated, e)
	return true
}

// syslogISO reads lines such as "2026-01-02T03:04:05.678+00:00 host app[1]: text".
// Only the tag tells them from any other text behind a time.
func (p *Parser) syslogISO(line []byte, e *Entry) bool {
	ns, size, ok := p.iso(line)
	if !ok || line[10] == ' ' || size >= len(line) || line[size] != ' ' {
		return false
	}
	host, message := field(line[size+1:])
	tag, _ := field(message)
	if len(host) == 0 || !isLetter(host[0]) && !isDigit(host[0]) || len(tag) < 3 || tag[len(tag)-1] != ':' {
		return false
	}
	// "INFO main:" is not a host and a program.
	if _, isLevel := named(bytes.TrimRight(host, ":")); isLevel || host[len(host)-1] == ':' {
		return false
	}
	e.Format, e.Time, e.Dated = Syslog, ns, true
	p.tagged(message, false, e)
	return true
}

// syslog5424 reads the part after the version: time, host, program, process,
// kind, structured data, text.
func (p *Parser) syslog5424(line []byte, e *Entry) bool {
	when, rest := field(line)
	_, rest = field(rest) // host
	app, rest := field(rest)
	_, rest = field(rest) // process
	_, rest = field(rest) // kind
	rest, ok := afterData(rest)
	if !ok {
		return false
	}
	e.Format = Syslog
	if ns, size, ok := p.iso(when); ok && size == len(when) {
		e.Time, e.Dated = ns, true
	}
	e.Message = bytes.TrimPrefix(bytes.TrimLeft(rest, " "), []byte("\xef\xbb\xbf"))
	if string(app) != "-" {
		e.Label = app
	}
	return true
}

// afterData skips structured data: a dash, or any number of [id key="value"].
func afterData(b []byte) (rest []byte, ok bool) {
	if len(b) > 0 && b[0] == '-' {
		return b[1:], true
	}
	start := len(b)
	for len(b) > 0 && b[0] == '[' {
		i := 1
		for i < len(b) && b[i] != ']' {
			if b[i] != '"' {
				i++
				continue
			}
			_, next := quoted(b, i)
			if next < 0 {
				return nil, false
			}
			i = next
		}
		if i >= len(b) {
			return nil, false
		}
		b = b[i+1:]
	}
	return b, len(b) < start
}

// tagged splits "program[123]: text". The level of the text is guessed unless
// it was stated.
func (p *Parser) tagged(message []byte, stated bool, e *Entry) {
	e.Message = message
	tag, text := field(message)
	if n := len(tag); n > 1 && tag[n-1] == ':' && len(text) > 0 {
		tag = tag[:n-1]
		if i := bytes.IndexByte(tag, '['); i > 0 {
			tag = tag[:i]
		}
		e.Label, e.Message = tag, text
	}
	if !stated {
		e.Level = guess(e.Message)
	}
}
