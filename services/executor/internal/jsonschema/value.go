package jsonschema

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
)

const maxViolations = 32 // told at once

// documents are the bounds on schemas and results, beside their size. Those on
// arguments are stricter: see package strictjson.
var documents = strictjson.Limits{Depth: 64, Nodes: 100_000, Keys: 100_000, StringBytes: math.MaxInt, NumberBytes: math.MaxInt}

// value is a JSON value twice: as Go's own types, for the validator, and as a
// tree that knows how large each part is.
type value struct {
	plain  any // nil, bool, int64, uint64, float64, string, []any, map[string]any
	size   int // bytes of JSON, about
	object map[string]*value
	array  []*value
	names  []string // of object, in order
}

// decode reads one JSON value strictly and within limits.
func decode(raw []byte, limits strictjson.Limits) (*value, *executorv1.Violation) {
	var d decoder
	d.json.Reset(raw, limits)
	v, err := d.value()
	if err == nil {
		if d.json.End() != nil {
			return nil, violation("", "must be one JSON value and nothing after it")
		}
		return v, nil
	}
	return nil, violation(d.json.Pointer(), strictjson.Sentence(err))
}

// Valid returns an error unless raw is one strict JSON value.
func Valid(raw []byte) error {
	_, bad := decode(raw, documents)
	return asError(bad)
}

// Object returns an error unless raw is one strict JSON object.
func Object(raw []byte) error {
	v, bad := decode(raw, documents)
	if bad == nil && v.object == nil {
		bad = violation("", "must be a JSON object")
	}
	return asError(bad)
}

// Members returns the members of a strict JSON object, each as it is written,
// or an error.
func Members(raw []byte) (map[string]jsontext.Value, error) {
	var r strictjson.Reader
	r.Reset(raw, documents)
	if r.Kind() != '{' {
		return nil, errors.New("must be a JSON object")
	}
	if err := r.Enter(); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	all := make(map[string]jsontext.Value)
	for r.Kind() != '}' {
		name, err := r.Name()
		if err != nil {
			return nil, fmt.Errorf("read object: %w", err)
		}
		key := strictjson.Text(name)
		v, err := r.Value()
		if err != nil {
			return nil, fmt.Errorf("read object: %w", err)
		}
		all[key] = bytes.Clone(v)
	}
	if err := errors.Join(r.Leave(), r.End()); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	return all, nil
}

func asError(v *executorv1.Violation) error {
	if v == nil {
		return nil
	}
	return errors.New(strings.TrimSpace(v.GetPointer() + " " + v.GetMessage()))
}

func violation(pointer, message string) *executorv1.Violation {
	return &executorv1.Violation{Pointer: shorten(pointer), Message: shorten(message)}
}

// shorten keeps a text within the 512 characters of the contract.
func shorten(s string) string {
	if len(s) <= 512 {
		return s
	}
	return strings.ToValidUTF8(s[:509], "") + "…"
}

type decoder struct{ json strictjson.Reader }

func (d *decoder) value() (*value, error) {
	kind := d.json.Kind()
	switch kind {
	case '{':
		return d.members()
	case '[':
		return d.elements()
	}
	raw, err := d.json.Scalar()
	if err != nil {
		return nil, err
	}
	switch kind {
	case '"':
		s := strictjson.Text(raw)
		return &value{plain: s, size: len(s) + 2}, nil
	case '0':
		return numeric(string(raw))
	case 't', 'f':
		return &value{plain: kind == 't', size: 5}, nil
	}
	return &value{size: 4}, nil
}

func (d *decoder) members() (*value, error) {
	if err := d.json.Enter(); err != nil {
		return nil, err
	}
	v := &value{object: make(map[string]*value), size: 2}
	plain := make(map[string]any)
	for d.json.Kind() != '}' {
		name, err := d.json.Name()
		if err != nil {
			return nil, err
		}
		key := strictjson.Text(name)
		member, err := d.value()
		if err != nil {
			return nil, err
		}
		v.object[key], plain[key] = member, member.plain
		v.names = append(v.names, key)
		v.size += len(key) + 4 + member.size
	}
	v.plain = plain
	return v, d.json.Leave()
}

func (d *decoder) elements() (*value, error) {
	if err := d.json.Enter(); err != nil {
		return nil, err
	}
	v := &value{size: 2}
	plain := []any{}
	for d.json.Kind() != ']' {
		element, err := d.value()
		if err != nil {
			return nil, err
		}
		v.array, plain = append(v.array, element), append(plain, element.plain)
		v.size += 1 + element.size
	}
	v.plain = plain
	return v, d.json.Leave()
}

// numeric keeps integers exact as far as 64 bits go.
func numeric(text string) (*value, error) {
	v := &value{size: len(text)}
	if !strings.ContainsAny(text, ".eE") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			v.plain = n
			return v, nil
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			v.plain = n
			return v, nil
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, strictjson.ErrNumber
	}
	v.plain = n
	return v, nil
}
