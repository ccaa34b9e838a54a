// Package line reads one line of a log: when it was written, how bad it is and
// what it says, whatever program wrote it.
//
// It knows JSON lines, logfmt, syslog (RFC 3164, RFC 5424 and the variant with
// ISO times that today's daemons write to disk), nginx access and error logs,
// and text that starts with a time. It decides by the line alone, so files that
// mix formats are no trouble. It keeps nothing between lines and never fails:
// what it does not understand is an undated line of text.
package line

import (
	"bytes"
	"time"
)

// Format is the way a line is written.
type Format uint8

// The formats, in the order in which a tie between them is settled. Plain is
// also the format of what was not understood.
const (
	Plain Format = iota
	JSON
	Logfmt
	Syslog
	Nginx
	Formats // how many there are
)

// String returns the name of the format as the contract has it.
func (f Format) String() string {
	switch f {
	case JSON:
		return "json"
	case Logfmt:
		return "logfmt"
	case Syslog:
		return "syslog"
	case Nginx:
		return "nginx"
	default:
		return "plain"
	}
}

// Entry is what a line says. Label and Message are parts of the line, or of a
// buffer of the parser: they are valid until the parser reads its next line.
type Entry struct {
	// Blank says that there is nothing in the line at all.
	Blank bool
	// Dated says that the line was understood and tells its time.
	Dated bool
	// Time is in nanoseconds of Unix time, never negative.
	Time   int64
	Format Format
	Level  Level
	// Label is a fixed word that says where the message belongs, such as the
	// program in syslog or the status of a request. It may be empty.
	Label []byte
	// Message is the text to group by.
	Message []byte
}

// Parser reads lines. It is not safe for concurrent use.
type Parser struct {
	zone   *time.Location
	latest int64 // later times are not believed
	year   int   // of latest

	text  []byte // holds unescaped strings
	extra []byte // holds messages made of parts
}

// NewParser returns a parser for the lines of one file. Times without a zone
// are in zone, times without a year are the latest possible.
//
// A line cannot be newer than its file, which was written last at the moment
// written. One that claims to be, by more than a day, is taken for undated: whoever
// gets a line with a far future time into a log must not thereby make all other
// lines look old.
func NewParser(zone *time.Location, written time.Time) *Parser {
	latest := written.In(zone).AddDate(0, 0, 1)
	return &Parser{zone: zone, latest: latest.UnixNano(), year: latest.Year()}
}

// Parse reads a line, which comes without its end. A cut line lacks its tail:
// what can be told from the rest is told.
func (p *Parser) Parse(line []byte, cut bool) Entry {
	line = bytes.Trim(line, " \t\r\x00")
	e := Entry{Level: Info, Message: line}
	if len(line) == 0 {
		e.Blank = true
		return e
	}
	if p.parse(line, cut, &e) {
		e.Dated = e.Dated && 0 <= e.Time && e.Time <= p.latest
		return e
	}
	return Entry{Level: guess(line), Message: line}
}

// parse tries the formats that can start as the line does. A format that says
// no may leave the entry half filled.
func (p *Parser) parse(line []byte, cut bool, e *Entry) bool {
	switch c := line[0]; {
	case c == '{':
		return p.json(line, cut, e)
	case c == '<':
		return p.syslog(line, e)
	case c == '[':
		return p.plain(line, e)
	case isDigit(c):
		return p.nginxError(line, e) || p.syslogISO(line, e) || p.plain(line, e) || p.access(line, e)
	default:
		return p.syslog(line, e) || p.logfmt(line, e) || p.access(line, e)
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// field cuts the first word off b.
func field(b []byte) (word, rest []byte) {
	i := bytes.IndexByte(b, ' ')
	if i < 0 {
		return b, nil
	}
	return b[:i], bytes.TrimLeft(b[i+1:], " ")
}

// number reads a non-negative decimal of all of b.
func number(b []byte) (n int, ok bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
