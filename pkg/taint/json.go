package taint

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is how deep JSON is looked into.
const maxDepth = 64

// ErrJSON says that a text is not one JSON value, or is nested too deep. What cannot
// be looked into is to be taken for suspect.
var ErrJSON = errors.New("taint: not one JSON value that can be looked into")

// Finder looks for values in texts and JSON. It keeps memory for the next time. The
// zero value is ready, and safe for concurrent use.
type Finder struct {
	readers sync.Pool // of *reader
}

// Text calls yield with the values in a text that may itself be JSON, with escapes in
// it, as [Values] does.
func (f *Finder) Text(text string, side Side, yield func(value []byte) bool) {
	r := f.reader(scanner{side: side, yield: yield})
	defer f.readers.Put(r)
	r.scan.text(text)
	if t := strings.TrimSpace(text); !r.scan.done && len(t) > 1 && (t[0] == '{' || t[0] == '[') && strings.IndexByte(t, '\\') >= 0 {
		_ = r.walk([]byte(t)) // what is no JSON was looked at as text
	}
}

// JSON calls yield with the values in all strings, numbers and names of members of a
// JSON value, as [Values] does.
func (f *Finder) JSON(text []byte, side Side, yield func(value []byte) bool) error {
	r := f.reader(scanner{side: side, yield: yield})
	defer f.readers.Put(r)
	return r.walk(text)
}

// Arguments calls yield with each value in the arguments of a call, a JSON object, and
// the name of the argument that it is in.
func (f *Finder) Arguments(arguments []byte, yield func(name string, value []byte) bool) error {
	r := f.reader(scanner{side: Argument, named: yield})
	defer f.readers.Put(r)
	return r.walk(arguments)
}

// reader returns a reader that nobody else has.
func (f *Finder) reader(scan scanner) *reader {
	r, ok := f.readers.Get().(*reader)
	if !ok {
		r = new(reader)
	}
	scan.value, scan.joined = r.scan.value, r.scan.joined
	r.scan = scan
	return r
}

// reader looks for values in one JSON value after another.
type reader struct {
	dec  jsontext.Decoder
	src  bytes.Buffer
	scan scanner
}

// ArgumentNames returns the names of the arguments, sorted.
func ArgumentNames(arguments []byte) ([]string, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(arguments, &all); err != nil {
		return nil, ErrJSON
	}
	var names []string
	for name, value := range all {
		if string(value) != "null" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// walk looks at each string, number and name of a member.
//
// It takes names that are given twice, halves of surrogate pairs and what is not UTF-8:
// content may be anybody's, and what is after them counts as well.
func (r *reader) walk(text []byte) error {
	r.src = *bytes.NewBuffer(text)
	r.dec.Reset(&r.src, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	whole := string(text) // copied once
	for !r.scan.done {
		depth := r.dec.StackDepth()
		within, n := r.dec.StackIndex(depth)
		name := within == '{' && n%2 == 0
		kind := r.dec.PeekKind()
		if kind == 0 && depth == 0 && n == 1 {
			if _, err := r.dec.ReadToken(); errors.Is(err, io.EOF) {
				return nil
			}
			return ErrJSON
		}
		if ends := kind == '}' || kind == ']'; depth == 0 && n == 1 || !name && !ends && depth > maxDepth {
			return ErrJSON
		}
		if kind != '"' && kind != '0' {
			if _, err := r.dec.ReadToken(); err != nil {
				return ErrJSON
			}
			continue
		}
		v, err := r.dec.ReadValue()
		if err != nil {
			return ErrJSON
		}
		end := int(r.dec.InputOffset())
		s := whole[end-len(v) : end]
		if kind == '"' {
			s = unquote(s)
		}
		if name && depth == 1 {
			r.scan.name = s
		}
		r.scan.text(s)
	}
	return nil
}

// unquote returns the text of a JSON string.
func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s[1 : len(s)-1]
	}
	text, _ := jsontext.AppendUnquote(nil, s) // what is wrong in it is replaced
	return string(text)
}
