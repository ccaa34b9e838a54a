package transcode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// Decode reads a JSON object into a new message. The message is nil if there
// are violations.
func (p *Plan) Decode(data []byte) (*dynamicpb.Message, []*executorv1.Violation) {
	d := p.decoders.Get().(*decoder)
	defer func() {
		d.violations, d.pointer = nil, d.pointer[:0]
		d.json.Reset(strings.NewReader("")) // let go of the arguments
		p.decoders.Put(d)
	}()
	d.json.Reset(bytes.NewBuffer(data))
	if d.json.PeekKind() != '{' {
		d.wrong("must be one JSON object")
		return nil, d.violations
	}
	m := p.New()
	if err := d.message(p.root, m, 0); err != nil {
		d.syntax(err)
	} else if _, err := d.json.ReadToken(); err != io.EOF {
		d.wrong("must be one JSON object and nothing after it")
	}
	if len(d.violations) > 0 {
		return nil, d.violations
	}
	return m, nil
}

// decoder is the state of one Decode. Its methods return an error only when
// the rest cannot be read; all else is a violation.
type decoder struct {
	json       *jsontext.Decoder
	pointer    []byte // where we are, RFC 6901
	violations []*executorv1.Violation
}

func (d *decoder) message(m *message, into protoreflect.Message, depth int) error {
	if depth > maxDepth {
		d.wrong("is nested too deeply")
		return d.json.SkipValue()
	}
	if _, err := d.json.ReadToken(); err != nil { // the brace: the caller has seen it
		return err
	}
	needed, before := m.needed, len(d.violations)
	var given uint64 // the first 64 fields, which are all that most types have
	for d.json.PeekKind() != '}' {
		name, err := d.json.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		f := m.byName[key]
		at := d.push(key)
		if f == nil {
			d.unknown(m, key)
			err = d.json.SkipValue()
		} else {
			if f.required {
				needed--
			}
			if f.index < 64 {
				given |= 1 << f.index
			}
			err = d.field(f, into, depth)
		}
		if err != nil {
			return err
		}
		d.pointer = d.pointer[:at]
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	if needed > 0 {
		d.missing(m, into, given, before)
	}
	return nil
}

// missing tells of required fields that were not given. A field that was given
// but is wrong has been told of.
func (d *decoder) missing(m *message, into protoreflect.Message, given uint64, before int) {
	told := make(map[string]bool)
	for _, v := range d.violations[before:] {
		told[v.GetPointer()] = true
	}
	for _, f := range m.fields {
		if !f.required || f.index < 64 && given&(1<<f.index) != 0 || into.Has(f.desc) {
			continue
		}
		at := d.push(f.name)
		if !told[string(d.pointer)] {
			d.wrong("is required")
		}
		d.pointer = d.pointer[:at]
	}
}

func (d *decoder) field(f *field, into protoreflect.Message, depth int) error {
	if f.nullable && d.json.PeekKind() == 'n' {
		_, err := d.json.ReadToken()
		return err
	}
	if f.oneof != nil {
		if other := into.WhichOneof(f.oneof); other != nil {
			d.wrong(fmt.Sprintf("cannot be given together with %q", other.Name()))
			return d.json.SkipValue()
		}
	}
	switch {
	case f.desc.IsMap():
		return d.entries(f, into, depth)
	case f.desc.IsList():
		return d.elements(f, into, depth)
	case f.scalar.message != nil:
		m := into.NewField(f.desc)
		ok, err := d.nested(f.scalar, m.Message(), depth)
		if ok {
			into.Set(f.desc, m)
		}
		return err
	}
	v, ok, err := d.scalar(f.scalar)
	if ok {
		into.Set(f.desc, v)
	}
	return err
}

func (d *decoder) elements(f *field, into protoreflect.Message, depth int) error {
	if kind := d.json.PeekKind(); kind != '[' {
		return d.mismatch("an array", kind)
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	all := into.NewField(f.desc).List()
	for i := 0; d.json.PeekKind() != ']'; i++ {
		at := d.pushIndex(i)
		if f.scalar.message != nil {
			v := all.NewElement()
			if _, err := d.nested(f.scalar, v.Message(), depth+1); err != nil {
				return err
			}
			all.Append(v)
		} else {
			v, ok, err := d.scalar(f.scalar)
			if err != nil {
				return err
			}
			if ok {
				all.Append(v)
			}
		}
		d.pointer = d.pointer[:at]
	}
	if all.Len() > 0 {
		into.Set(f.desc, protoreflect.ValueOfList(all))
	}
	_, err := d.json.ReadToken()
	return err
}

func (d *decoder) entries(f *field, into protoreflect.Message, depth int) error {
	if kind := d.json.PeekKind(); kind != '{' {
		return d.mismatch("an object", kind)
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	all := into.NewField(f.desc).Map()
	for d.json.PeekKind() != '}' {
		name, err := d.json.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		at := d.push(key)
		k, ok := mapKey(f.key.kind, key)
		if !ok {
			d.wrong("its name must be " + f.key.want)
		}
		if f.scalar.message != nil {
			v := all.NewValue()
			if _, err := d.nested(f.scalar, v.Message(), depth+1); err != nil {
				return err
			}
			if ok {
				all.Set(k.MapKey(), v)
			}
		} else {
			v, valid, err := d.scalar(f.scalar)
			if err != nil {
				return err
			}
			if ok && valid {
				all.Set(k.MapKey(), v)
			}
		}
		d.pointer = d.pointer[:at]
	}
	if all.Len() > 0 {
		into.Set(f.desc, protoreflect.ValueOfMap(all))
	}
	_, err := d.json.ReadToken()
	return err
}

// nested reads a value that is a message in proto, whatever it is in JSON.
func (d *decoder) nested(s *scalar, into protoreflect.Message, depth int) (bool, error) {
	kind := d.json.PeekKind()
	switch s.message.special {
	case value:
		return d.dynamic(into, depth)
	case wrapper:
		inner := s.message.fields[0]
		v, ok, err := d.scalar(inner.scalar)
		if ok {
			into.Set(inner.desc, v)
		}
		return ok, err
	case text:
		if kind != '"' {
			return false, d.mismatch(s.want, kind)
		}
		raw, err := d.json.ReadValue()
		if err != nil {
			return false, err
		}
		if protojson.Unmarshal(raw, into.Interface()) != nil {
			d.wrong("must be " + s.want)
			return false, nil
		}
		return true, nil
	case list:
		if kind != '[' {
			return false, d.mismatch("an array", kind)
		}
		return d.dynamicList(into, depth)
	case structure:
		if kind != '{' {
			return false, d.mismatch("an object", kind)
		}
		return d.dynamicStruct(into, depth)
	}
	if kind != '{' {
		return false, d.mismatch("an object", kind)
	}
	before := len(d.violations)
	err := d.message(s.message, into, depth+1)
	return len(d.violations) == before, err
}

// syntax makes a violation of what cannot be read on.
func (d *decoder) syntax(err error) {
	bad, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		d.wrong("must be one JSON object")
		return
	}
	d.pointer = append(d.pointer[:0], bad.JSONPointer...)
	if errors.Is(err, jsontext.ErrDuplicateName) {
		d.wrong("is given twice")
		return
	}
	d.wrong("is not valid JSON")
}

// mismatch tells that a value is of the wrong kind, and skips it.
func (d *decoder) mismatch(want string, got jsontext.Kind) error {
	switch got {
	case 'n':
		d.wrong("must be " + want + ", not null; leave it out if it is not wanted")
	case 0: // the value itself is broken; skipping it fails
	default:
		d.wrong("must be " + want + ", not " + kinds[got])
	}
	return d.json.SkipValue()
}

var kinds = map[jsontext.Kind]string{
	't': "a boolean", 'f': "a boolean", '"': "a string", '0': "a number", '{': "an object", '[': "an array",
}

func (d *decoder) unknown(m *message, key string) {
	switch name, alias := m.aliases[key]; {
	case alias:
		d.wrong(fmt.Sprintf("is not known; the name is %q", name))
	case len(m.fields) == 0:
		d.wrong("is not known; nothing may be given here")
	default:
		d.wrong("is not known; known are: " + m.names)
	}
}

func (d *decoder) wrong(message string) {
	if len(d.violations) < maxViolations {
		d.violations = append(d.violations, &executorv1.Violation{
			Pointer: shorten(string(d.pointer)), Message: shorten(message),
		})
	}
}

// shorten keeps a text within the 512 characters of the contract.
func shorten(s string) string {
	if len(s) <= 512 {
		return s
	}
	return strings.ToValidUTF8(s[:509], "") + "…"
}

func (d *decoder) push(name string) int {
	at := len(d.pointer)
	d.pointer = append(d.pointer, '/')
	for i := range len(name) {
		switch name[i] {
		case '~':
			d.pointer = append(d.pointer, "~0"...)
		case '/':
			d.pointer = append(d.pointer, "~1"...)
		default:
			d.pointer = append(d.pointer, name[i])
		}
	}
	return at
}

func (d *decoder) pushIndex(i int) int {
	at := len(d.pointer)
	d.pointer = strconv.AppendInt(append(d.pointer, '/'), int64(i), 10)
	return at
}
