package taint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxDepth is how deep JSON is looked into.
const maxDepth = 64

// ErrJSON says that a text is not one JSON value, or is nested too deep. What cannot
// be looked into is to be taken for suspect.
var ErrJSON = errors.New("taint: not one JSON value that can be looked into")

// JSONValues calls yield with the values in all strings, numbers and names of members
// of a JSON value, as [Values] does.
func JSONValues(text []byte, side Side, yield func(string) bool) error {
	return walk(text, func(_ string, s string) bool {
		ok := true
		Values(s, side, func(v string) bool { ok = yield(v); return ok })
		return ok
	})
}

// TextValues is Values of a text that may itself be JSON, with escapes in it.
func TextValues(text string, side Side, yield func(string) bool) {
	ok := true
	Values(text, side, func(v string) bool { ok = yield(v); return ok })
	if t := strings.TrimSpace(text); ok && len(t) > 1 && (t[0] == '{' || t[0] == '[') && strings.Contains(t, `\`) {
		_ = JSONValues([]byte(t), side, yield) // what is no JSON was looked at as text
	}
}

// ArgumentValues calls yield with each value in the arguments of a call, a JSON
// object, and the name of the argument that it is in.
func ArgumentValues(arguments []byte, yield func(name, value string) bool) error {
	return walk(arguments, func(name, s string) bool {
		ok := true
		Values(s, Argument, func(v string) bool { ok = yield(name, v); return ok })
		return ok
	})
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

// walk calls visit with each string, number and name of a member, and the name of the
// member of the whole that it is in, until it returns false.
func walk(text []byte, visit func(top, s string) bool) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	w := walker{d: d, visit: visit}
	if err := w.value("", 0); err != nil {
		return err
	}
	if w.stopped {
		return nil
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return ErrJSON
	}
	return nil
}

type walker struct {
	d       *json.Decoder
	visit   func(top, s string) bool
	stopped bool
}

func (w *walker) tell(top, s string) { w.stopped = w.stopped || !w.visit(top, s) }

func (w *walker) value(top string, depth int) error {
	if depth > maxDepth {
		return ErrJSON
	}
	token, err := w.d.Token()
	if err != nil {
		return fmt.Errorf("%w: syntax", ErrJSON)
	}
	switch t := token.(type) {
	case string:
		w.tell(top, t)
	case json.Number:
		w.tell(top, t.String())
	case json.Delim:
		return w.members(t == '{', top, depth)
	}
	return nil
}

func (w *walker) members(object bool, top string, depth int) error {
	for w.d.More() && !w.stopped {
		name := top
		if object {
			token, err := w.d.Token()
			key, ok := token.(string)
			if err != nil || !ok {
				return fmt.Errorf("%w: syntax", ErrJSON)
			}
			if depth == 0 {
				name = key
			}
			w.tell(name, key)
		}
		if err := w.value(name, depth+1); err != nil {
			return err
		}
	}
	if w.stopped {
		return nil
	}
	if _, err := w.d.Token(); err != nil {
		return fmt.Errorf("%w: syntax", ErrJSON)
	}
	return nil
}
