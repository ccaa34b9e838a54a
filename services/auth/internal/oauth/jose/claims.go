package jose

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ErrType says that a claim is not of the type that it must have.
var ErrType = errors.New("has the wrong type")

// Text returns a claim that is a string, "" if it is absent. Neither null nor a
// number is a string.
func (c Claims) Text(name string) (string, error) {
	raw, ok := c[name]
	if !ok {
		return "", nil
	}
	return text(name, raw)
}

func text(name string, raw jsontext.Value) (string, error) {
	var s string
	if raw.Kind() != '"' || json.Unmarshal(raw, &s) != nil {
		return "", fmt.Errorf("%s %w", name, ErrType)
	}
	return s, nil
}

// Texts returns a claim that is a string or an array of strings.
func (c Claims) Texts(name string) ([]string, error) {
	raw, ok := c[name]
	if !ok {
		return nil, nil
	}
	switch raw.Kind() {
	case '"':
		s, err := text(name, raw)
		return []string{s}, err
	case '[':
		var items []jsontext.Value
		if json.Unmarshal(raw, &items) != nil {
			return nil, fmt.Errorf("%s %w", name, ErrType)
		}
		list := make([]string, 0, len(items))
		for _, item := range items {
			s, err := text(name, item)
			if err != nil {
				return nil, err
			}
			list = append(list, s)
		}
		return list, nil
	}
	return nil, fmt.Errorf("%s %w", name, ErrType)
}

// Time returns a claim that is a time in whole seconds, and false if it is
// absent. Fractions, exponents and signs are refused: no issuer needs them, and
// each is a way to be read in two ways.
func (c Claims) Time(name string) (time.Time, bool, error) {
	raw, ok := c[name]
	if !ok {
		return time.Time{}, false, nil
	}
	n, err := strconv.ParseUint(string(raw), 10, 53)
	if err != nil || raw.Kind() != '0' {
		return time.Time{}, false, fmt.Errorf("%s %w", name, ErrType)
	}
	return time.Unix(int64(n), 0), true, nil
}

// At returns the object that is found by following a path of names, and the last
// name. A dot parts names; a name that itself has dots is found if the whole path
// is a member. The object is nil where there is none.
func (c Claims) At(path string) (object Claims, name string) {
	for object = c; ; {
		if _, ok := object[path]; ok {
			return object, path
		}
		first, rest, ok := strings.Cut(path, ".")
		if !ok {
			return object, path
		}
		raw := object[first]
		if raw.Kind() != '{' {
			return nil, rest
		}
		next, err := ParseClaims(raw)
		if err != nil {
			return nil, rest
		}
		object, path = next, rest
	}
}
