package line

import "bytes"

// fields gathers what the keys of a structured line say, from JSON and logfmt
// alike. Of several keys for one thing the first counts.
type fields struct {
	time, level, message, detail, status []byte
}

// slot returns where the value of a key goes, nil if it is of no interest.
func (f *fields) slot(key []byte) *[]byte {
	if len(key) > len("status_code") {
		return nil
	}
	var at *[]byte
	switch string(key) {
	case "time", "ts", "timestamp", "@timestamp", "t", "@t", "datetime":
		at = &f.time
	case "level", "severity", "lvl", "log.level", "@l", "loglevel", "Level":
		at = &f.level
	case "msg", "message", "log", "@m", "@mt", "event":
		at = &f.message
	case "error", "err", "exception":
		at = &f.detail
	case "status", "status_code", "code":
		at = &f.status
	default:
		return nil
	}
	if *at != nil {
		return nil
	}
	return at
}

// fill makes an entry of the fields. Without a message the line itself is what
// it says.
func (f *fields) fill(p *Parser, line []byte, e *Entry) {
	e.Time, e.Dated = p.written(f.time)
	e.Level = f.severity()
	switch {
	case len(f.message) == 0:
		e.Message = line
	case len(f.detail) == 0:
		e.Message = f.message
	default:
		// "Cannot charge" says less than "cannot charge: no route to host".
		p.extra = append(append(append(p.extra[:0], f.message...), ": "...), f.detail...)
		e.Message = p.extra
	}
}

// severity is the stated level, else that of an HTTP status, else Info.
func (f *fields) severity() Level {
	if l, ok := named(bytes.TrimSpace(f.level)); ok {
		return l
	}
	if n, ok := number(f.level); ok {
		if l, ok := numbered(n); ok {
			return l
		}
	}
	if code, ok := number(f.status); ok && code >= 100 && code < 600 {
		return status(code)
	}
	return Info
}
