package client

import (
	"bufio"
	"bytes"
	"io"
	"time"
)

// events reads a stream of server-sent events that carry messages.
type events struct {
	r      *bufio.Reader
	max    int // bytes of one event
	lastID string
	retry  time.Duration
	skipLF bool // the last line ended with a carriage return
}

func newEvents(r io.Reader, max int) *events {
	return &events{r: bufio.NewReaderSize(r, 16<<10), max: max}
}

// resume goes on with another stream.
func (e *events) resume(r io.Reader) {
	e.r.Reset(r)
	e.skipLF = false
}

// until returns the response to the request with this id. What else comes, and
// responses to others, which are a mistake of the server, go to other and nowhere.
func (e *events) until(id string, other func(message) error) (message, error) {
	for {
		data, err := e.next()
		if err != nil {
			return message{}, err
		}
		m, err := parse(data)
		if err != nil {
			return message{}, err
		}
		if id != "" && m.answers(id) {
			return m, nil
		}
		if m.isResponse() {
			continue
		}
		if err := other(m); err != nil {
			return message{}, err
		}
	}
}

// next returns the data of the next event that has any: some are there for their
// id alone. What a stream that breaks
// off leaves unfinished is dropped, as the standard says.
func (e *events) next() ([]byte, error) {
	var data []byte
	named, read := false, 0
	for {
		line, err := e.line(e.max - read)
		if err != nil {
			return nil, err
		}
		read += len(line)
		if len(line) == 0 {
			if len(bytes.TrimSpace(data)) > 0 && !named {
				return data[:len(data)-1], nil
			}
			data, named, read = nil, false, 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			data = append(append(data, value...), '\n')
		case "event":
			named = string(value) != "message" && len(value) > 0
		case "id":
			if !bytes.ContainsRune(value, 0) && len(value) <= 1024 {
				e.lastID = string(value)
			}
		case "retry":
			e.retry = milliseconds(string(value))
		}
	}
}

// line reads up to the next line feed, carriage return, or both.
func (e *events) line(max int) ([]byte, error) {
	var line []byte
	for {
		if _, err := e.r.Peek(1); err != nil {
			return nil, err
		}
		chunk, _ := e.r.Peek(e.r.Buffered())
		if e.skipLF {
			e.skipLF = false
			if chunk[0] == '\n' {
				_, _ = e.r.Discard(1) // it is there
				continue
			}
		}
		end := bytes.IndexAny(chunk, "\r\n")
		n := end
		if end < 0 {
			n = len(chunk)
		}
		if len(line)+n > max {
			return nil, ErrTooLarge
		}
		line = append(line, chunk[:n]...)
		if end < 0 {
			_, _ = e.r.Discard(n)
			continue
		}
		e.skipLF = chunk[end] == '\r'
		_, _ = e.r.Discard(n + 1)
		return line, nil
	}
}
