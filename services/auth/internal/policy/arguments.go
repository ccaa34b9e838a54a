package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go"
)

// maxDepth is how deep arguments may be nested; the edge allows less.
const maxDepth = 64

// ErrArguments says that arguments are not one strict JSON object.
var ErrArguments = errors.New("arguments are not one JSON object")

// Arguments are the arguments of a call as policies see them.
type Arguments struct{ record cedar.Record }

// ParseArguments reads a JSON object:
//
//   - an object becomes a record and an array a set, so that order and
//     repetition in arrays are lost;
//   - a string and a boolean stay what they are;
//   - a whole number of 64 bits becomes a Long, however it is written (1000,
//     1e3, 1000.0), one with at most four decimals a decimal, and any other a
//     string in one normal form, to which < and > do not apply;
//   - null is as if the member or element were not there.
//
// Duplicate members, trailing bytes, invalid UTF-8 and nesting beyond 64 are
// errors: what policies see must be what the tool will see. Errors do not
// repeat values.
func ParseArguments(text []byte) (*Arguments, error) {
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: invalid UTF-8", ErrArguments)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := readValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: trailing bytes", ErrArguments)
	}
	r, ok := v.(cedar.Record)
	if !ok {
		return nil, ErrArguments
	}
	return &Arguments{record: r}, nil
}

// readValue returns nil for null.
func readValue(d *json.Decoder, depth int) (cedar.Value, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: nested too deep", ErrArguments)
	}
	token, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: syntax error", ErrArguments)
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return readObject(d, depth)
		}
		return readArray(d, depth)
	case string:
		return cedar.String(token), nil
	case json.Number:
		return number(token.String()), nil
	case bool:
		return cedar.Boolean(token), nil
	}
	return nil, nil
}

func readObject(d *json.Decoder, depth int) (cedar.Value, error) {
	m := make(cedar.RecordMap)
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: syntax error", ErrArguments)
		}
		if seen[name] {
			return nil, fmt.Errorf("%w: a member is there twice", ErrArguments)
		}
		seen[name] = true
		v, err := readValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		if v != nil {
			m[cedar.String(name)] = v
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("%w: syntax error", ErrArguments)
	}
	return cedar.NewRecord(m), nil
}

func readArray(d *json.Decoder, depth int) (cedar.Value, error) {
	var values []cedar.Value
	for d.More() {
		v, err := readValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		if v != nil {
			values = append(values, v)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("%w: syntax error", ErrArguments)
	}
	return cedar.NewSet(values...), nil
}
