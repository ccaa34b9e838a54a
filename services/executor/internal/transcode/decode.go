package transcode

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
)

// Decode reads a JSON object into a new message. The message is nil if there
// are violations.
func (p *Plan) Decode(data []byte) (*dynamicpb.Message, []*executorv1.Violation) {
	d := p.decoders.Get().(*decoder)
	defer func() {
		d.violations, d.pointer = nil, d.pointer[:0]
		d.json.Reset(nil, strictjson.Limits{}) // let go of the arguments
		p.decoders.Put(d)
	}()
	d.json.Reset(data, strictjson.DefaultLimits())
	if d.json.Kind() != '{' {
		d.wrong("must be one JSON object")
		return nil, d.violations
	}
	m := p.New()
	if err := d.message(p.root, m); err != nil {
		d.unreadable(err)
	} else if d.json.End() != nil {
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
	json       strictjson.Reader
	pointer    []byte // where we are, RFC 6901
	violations []*executorv1.Violation
}

func (d *decoder) message(m *message, into protoreflect.Message) error {
	if err := d.json.Enter(); err != nil {
		return err
	}
	needed, before := m.needed, len(d.violations)
	var given uint64 // the first 64 fields, which are all that most types have
	for d.json.Kind() != '}' {
		name, err := d.json.Name()
		if err != nil {
			return err
		}
		key := strictjson.Text(name)
		f := m.byName[key]
		at := d.push(key)
		if f == nil {
			d.unknown(m, key)
			err = d.json.Skip()
		} else {
			if f.required {
				needed--
			}
			if f.index < 64 {
				given |= 1 << f.index
			}
			err = d.field(f, into)
		}
		if err != nil {
			return err
		}
		d.pointer = d.pointer[:at]
	}
	if err := d.json.Leave(); err != nil {
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

func (d *decoder) field(f *field, into protoreflect.Message) error {
	if f.nullable && d.json.Kind() == 'n' {
		_, err := d.json.Scalar()
		return err
	}
	if f.oneof != nil {
		if other := into.WhichOneof(f.oneof); other != nil {
			d.wrong(fmt.Sprintf("cannot be given together with %q", other.Name()))
			return d.json.Skip()
		}
	}
	switch {
	case f.desc.IsMap():
		return d.entries(f, into)
	case f.desc.IsList():
		return d.elements(f, into)
	case f.scalar.message != nil:
		m := into.NewField(f.desc)
		ok, err := d.nested(f.scalar, m.Message())
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

func (d *decoder) elements(f *field, into protoreflect.Message) error {
	if kind := d.json.Kind(); kind != '[' {
		return d.mismatch("an array", kind)
	}
	if err := d.json.Enter(); err != nil {
		return err
	}
	all := into.NewField(f.desc).List()
	for i := 0; d.json.Kind() != ']'; i++ {
		at := d.pushIndex(i)
		if f.scalar.message != nil {
			v := all.NewElement()
			if _, err := d.nested(f.scalar, v.Message()); err != nil {
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
	return d.json.Leave()
}

func (d *decoder) entries(f *field, into protoreflect.Message) error {
	if kind := d.json.Kind(); kind != '{' {
		return d.mismatch("an object", kind)
	}
	if err := d.json.Enter(); err != nil {
		return err
	}
	all := into.NewField(f.desc).Map()
	for d.json.Kind() != '}' {
		name, err := d.json.Name()
		if err != nil {
			return err
		}
		key := strictjson.Text(name)
		at := d.push(key)
		k, ok := mapKey(f.key.kind, key)
		if !ok {
			d.wrong("its name must be " + f.key.want)
		}
		if f.scalar.message != nil {
			v := all.NewValue()
			if _, err := d.nested(f.scalar, v.Message()); err != nil {
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
	return d.json.Leave()
}

// nested reads a value that is a message in proto, whatever it is in JSON.
func (d *decoder) nested(s *scalar, into protoreflect.Message) (bool, error) {
	kind := d.json.Kind()
	switch s.message.special {
	case value:
		return d.dynamic(into)
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
		raw, err := d.json.Scalar()
		if err != nil {
			return false, err
		}
		if s.pattern != nil && !s.pattern.Match(raw[1:len(raw)-1]) || protojson.Unmarshal(raw, into.Interface()) != nil {
			d.wrong("must be " + s.want)
			return false, nil
		}
		return true, nil
	case list:
		if kind != '[' {
			return false, d.mismatch("an array", kind)
		}
		return d.dynamicList(into)
	case structure:
		if kind != '{' {
			return false, d.mismatch("an object", kind)
		}
		return d.dynamicStruct(into)
	}
	if kind != '{' {
		return false, d.mismatch("an object", kind)
	}
	before := len(d.violations)
	err := d.message(s.message, into)
	return len(d.violations) == before, err
}

// unreadable makes a violation of what cannot be read on.
func (d *decoder) unreadable(err error) {
	d.pointer = append(d.pointer[:0], d.json.Pointer()...)
	d.wrong(strictjson.Sentence(err))
}

// mismatch tells that a value is of the wrong kind, and skips it.
func (d *decoder) mismatch(want string, got strictjson.Kind) error {
	switch got {
	case 'n':
		d.wrong("must be " + want + ", not null; leave it out if it is not wanted")
	case 0: // the value itself is broken; skipping it fails
	default:
		d.wrong("must be " + want + ", not " + kinds[got])
	}
	return d.json.Skip()
}

var kinds = map[strictjson.Kind]string{
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
