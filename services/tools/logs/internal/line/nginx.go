package line

import "bytes"

// access reads a line of the common or combined log format:
//
//	192.0.2.1 - alice [02/Jan/2026:03:04:05 +0000] "GET /a?b=c HTTP/1.1" 200 12 "-" "curl"
//
// Its message is the request without query and protocol, its label the status,
// its level that of the status.
func (p *Parser) access(line []byte, e *Entry) bool {
	open := bytes.Index(line, []byte(" ["))
	if open < 1 {
		return false
	}
	rest := line[open+2:]
	ns, size, ok := common(rest)
	if !ok || len(rest) < size+3 || string(rest[size:size+3]) != `] "` {
		return false
	}
	request, next := quoted(rest, size+2)
	if next < 0 || next >= len(rest) || rest[next] != ' ' {
		return false
	}
	word, _ := field(rest[next+1:])
	code, ok := number(word)
	if !ok || code < 100 || code > 999 {
		return false
	}
	e.Format, e.Time, e.Dated = Nginx, ns, true
	e.Level, e.Label = status(code), word
	method, target := field(request)
	path, _ := field(target)
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if len(path) == 0 { // not HTTP: somebody knocked with TLS or worse
		e.Message = request
		return true
	}
	p.extra = append(append(append(p.extra[:0], method...), ' '), path...)
	e.Message = p.extra
	return true
}

// nginxError reads a line of nginx's own log:
//
//	2026/01/02 03:04:05 [error] 12#12: *34 connect() failed, client: 192.0.2.1, server: x
//
// The client and all that follows is left out of the message.
func (p *Parser) nginxError(line []byte, e *Entry) bool {
	if len(line) < 22 || line[4] != '/' || line[19] != ' ' || line[20] != '[' {
		return false
	}
	ns, _, ok := p.iso(line[:19])
	end := bytes.IndexByte(line, ']')
	if !ok || end < 0 {
		return false
	}
	level, ok := named(line[21:end])
	process, message := field(bytes.TrimLeft(line[end+1:], " "))
	if !ok || bytes.IndexByte(process, '#') < 1 || process[len(process)-1] != ':' {
		return false
	}
	if word, text := field(message); len(word) > 1 && word[0] == '*' && isDigit(word[1]) {
		message = text
	}
	if i := bytes.Index(message, []byte(", client: ")); i > 0 {
		message = message[:i]
	}
	e.Format, e.Time, e.Dated, e.Level, e.Message = Nginx, ns, true, level, message
	return true
}
