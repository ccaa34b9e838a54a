package jsonschema

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// Bounds on a JSON document, beside its size.
const (
	maxDepth      = 64
	maxNodes      = 100000
	maxViolations = 32 // told at once
)

// value is a JSON value twice: as Go's own types, for the validator, and as a
// tree that knows how large each part is.
type value struct {
	plain  any // nil, bool, int64, uint64, float64, string, []any, map[string]any
	size   int // bytes of JSON, about
	object map[string]*value
	array  []*value
	names  []string // of object, in order
}

// decode reads one JSON value strictly: no name twice, no invalid UTF-8,
// nothing after it, and bounded.
func decode(raw []byte) (*value, *executorv1.Violation) {
	d := &decoder{json: jsontext.NewDecoder(bytes.NewBuffer(raw))}
	v, err := d.value(0)
	if err == nil {
		if _, end := d.json.ReadToken(); end != io.EOF {
			err = wrong("", "must be one JSON value and nothing after it")
		}
	}
	if err == nil {
		return v, nil
	}
	if told, ok := errors.AsType[*problem](err); ok {
		return nil, told.violation
	}
	bad, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case !ok:
		return nil, violation("", "is not valid JSON")
	case errors.Is(err, jsontext.ErrDuplicateName):
		return nil, violation(string(bad.JSONPointer), "is given twice")
	}
	return nil, violation(string(bad.JSONPointer), "is not valid JSON")
}

// Valid returns an error unless raw is one strict JSON value.
func Valid(raw []byte) error {
	_, bad := decode(raw)
	return asError(bad)
}

// Object returns an error unless raw is one strict JSON object.
func Object(raw []byte) error {
	v, bad := decode(raw)
	if bad == nil && v.object == nil {
		bad = violation("", "must be a JSON object")
	}
	return asError(bad)
}

// Members returns the members of a strict JSON object, each as it is written,
// or an error.
func Members(raw []byte) (map[string]jsontext.Value, error) {
	if err := Object(raw); err != nil {
		return nil, err
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if _, err := d.ReadToken(); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	all := make(map[string]jsontext.Value)
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, fmt.Errorf("read object: %w", err)
		}
		key := name.String()
		v, err := d.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("read object: %w", err)
		}
		all[key] = v.Clone()
	}
	return all, nil
}

func asError(v *executorv1.Violation) error {
	if v == nil {
		return nil
	}
	return errors.New(strings.TrimSpace(v.GetPointer() + " " + v.GetMessage()))
}

// problem is a violation on its way out of the decoder.
type problem struct{ violation *executorv1.Violation }

// Error implements error.
func (p *problem) Error() string { return p.violation.GetMessage() }

func wrong(pointer, message string) error { return &problem{violation(pointer, message)} }

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

type decoder struct {
	json  *jsontext.Decoder
	nodes int
}

func (d *decoder) value(depth int) (*value, error) {
	if d.nodes++; d.nodes > maxNodes {
		return nil, wrong("", "has too many parts")
	}
	tok, err := d.json.ReadToken()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case '{', '[':
		if depth == maxDepth {
			return nil, wrong(string(d.json.StackPointer()), "is nested too deeply")
		}
		if tok.Kind() == '{' {
			return d.members(depth)
		}
		return d.elements(depth)
	case '"':
		s := tok.String()
		return &value{plain: s, size: len(s) + 2}, nil
	case '0':
		return d.number(tok.String())
	case 't', 'f':
		return &value{plain: tok.Bool(), size: 5}, nil
	}
	return &value{size: 4}, nil
}

func (d *decoder) members(depth int) (*value, error) {
	v := &value{object: make(map[string]*value), size: 2}
	plain := make(map[string]any)
	for d.json.PeekKind() != '}' {
		name, err := d.json.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String()
		member, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		v.object[key], plain[key] = member, member.plain
		v.names = append(v.names, key)
		v.size += len(key) + 4 + member.size
	}
	v.plain = plain
	_, err := d.json.ReadToken()
	return v, err
}

func (d *decoder) elements(depth int) (*value, error) {
	v := &value{size: 2}
	plain := []any{}
	for d.json.PeekKind() != ']' {
		element, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		v.array, plain = append(v.array, element), append(plain, element.plain)
		v.size += 1 + element.size
	}
	v.plain = plain
	_, err := d.json.ReadToken()
	return v, err
}

// number keeps integers exact as far as 64 bits go.
func (d *decoder) number(text string) (*value, error) {
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
		return nil, wrong(string(d.json.StackPointer()), "is a number of a size that cannot be handled")
	}
	v.plain = n
	return v, nil
}
