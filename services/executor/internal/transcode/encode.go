package transcode

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ErrTooLarge says that a result has more bytes than it may.
var ErrTooLarge = errors.New("result too large")

// Encode writes a message as a JSON object of at most limit bytes: names as in
// the proto, fields in the order of their declaration, every field without
// presence even if it is zero, map keys sorted. The same message always gives
// the same bytes. 64-bit integers are strings, as in all of protobuf's JSON.
//
// A message that JSON or the published schema cannot hold, such as one with a
// NaN or an unknown enum value, is an error.
func (p *Plan) Encode(m protoreflect.Message, limit int) ([]byte, error) {
	e := encoder{out: make([]byte, 0, 256), limit: limit}
	if err := e.message(p.root, m, 0); err != nil {
		return nil, err
	}
	if len(e.out) > limit {
		return nil, ErrTooLarge
	}
	return e.out, nil
}

type encoder struct {
	out   []byte
	limit int
}

func (e *encoder) message(m *message, from protoreflect.Message, depth int) error {
	if depth > maxDepth {
		return errors.New("nested too deeply")
	}
	if len(e.out) > e.limit {
		return ErrTooLarge
	}
	e.out = append(e.out, '{')
	first := true
	for _, f := range m.fields {
		if f.desc.HasPresence() && !from.Has(f.desc) {
			continue
		}
		if !first {
			e.out = append(e.out, ',')
		}
		first = false
		e.out = append(e.out, f.prefix...)
		if err := e.field(f, from.Get(f.desc), depth); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	e.out = append(e.out, '}')
	return nil
}

func (e *encoder) field(f *field, v protoreflect.Value, depth int) error {
	switch {
	case f.desc.IsMap():
		return e.entries(v.Map(), func(v protoreflect.Value) error { return e.value(f.scalar, v, depth+1) })
	case f.desc.IsList():
		return e.elements(v.List(), func(v protoreflect.Value) error { return e.value(f.scalar, v, depth+1) })
	}
	return e.value(f.scalar, v, depth)
}

func (e *encoder) elements(all protoreflect.List, one func(protoreflect.Value) error) error {
	e.out = append(e.out, '[')
	for i := range all.Len() {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		if err := one(all.Get(i)); err != nil {
			return err
		}
		if len(e.out) > e.limit {
			return ErrTooLarge
		}
	}
	e.out = append(e.out, ']')
	return nil
}

func (e *encoder) entries(all protoreflect.Map, one func(protoreflect.Value) error) error {
	type entry struct {
		key   string
		value protoreflect.Value
	}
	sorted := make([]entry, 0, all.Len())
	all.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		sorted = append(sorted, entry{k.String(), v})
		return true
	})
	slices.SortFunc(sorted, func(a, b entry) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return 0
	})
	e.out = append(e.out, '{')
	for i, kv := range sorted {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		if err := e.text(kv.key); err != nil {
			return err
		}
		e.out = append(e.out, ':')
		if err := one(kv.value); err != nil {
			return err
		}
		if len(e.out) > e.limit {
			return ErrTooLarge
		}
	}
	e.out = append(e.out, '}')
	return nil
}

func (e *encoder) value(s *scalar, v protoreflect.Value, depth int) error {
	switch s.kind {
	case protoreflect.BoolKind:
		e.out = strconv.AppendBool(e.out, v.Bool())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		e.out = strconv.AppendInt(e.out, v.Int(), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		e.out = strconv.AppendUint(e.out, v.Uint(), 10)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		e.out = append(strconv.AppendInt(append(e.out, '"'), v.Int(), 10), '"')
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		e.out = append(strconv.AppendUint(append(e.out, '"'), v.Uint(), 10), '"')
	case protoreflect.FloatKind:
		return e.float(v.Float(), 32)
	case protoreflect.DoubleKind:
		return e.float(v.Float(), 64)
	case protoreflect.StringKind:
		return e.text(v.String())
	case protoreflect.BytesKind:
		e.out = append(e.out, '"')
		e.out = base64.StdEncoding.AppendEncode(e.out, v.Bytes())
		e.out = append(e.out, '"')
	case protoreflect.EnumKind:
		n := s.enum.Values().ByNumber(v.Enum())
		if n == nil {
			return fmt.Errorf("no name for value %d of %s", v.Enum(), s.enum.FullName())
		}
		return e.text(string(n.Name()))
	default:
		return e.nested(s.message, v.Message(), depth)
	}
	return nil
}

func (e *encoder) nested(m *message, from protoreflect.Message, depth int) error {
	switch m.special {
	case plain:
		return e.message(m, from, depth+1)
	case wrapper:
		return e.value(m.fields[0].scalar, from.Get(m.fields[0].desc), depth)
	case structure:
		return e.dynamicStruct(from, depth)
	case value:
		return e.dynamic(from, depth)
	case list:
		return e.dynamicList(from, depth)
	}
	b, err := protojson.Marshal(from.Interface()) // a string: no space can get in
	e.out = append(e.out, b...)
	return err
}

func (e *encoder) dynamicStruct(from protoreflect.Message, depth int) error {
	all := from.Get(from.Descriptor().Fields().ByNumber(structFields)).Map()
	return e.entries(all, func(v protoreflect.Value) error { return e.dynamic(v.Message(), depth+1) })
}

func (e *encoder) dynamicList(from protoreflect.Message, depth int) error {
	all := from.Get(from.Descriptor().Fields().ByNumber(listValues)).List()
	return e.elements(all, func(v protoreflect.Value) error { return e.dynamic(v.Message(), depth+1) })
}

func (e *encoder) dynamic(from protoreflect.Message, depth int) error {
	if depth > maxDepth {
		return errors.New("nested too deeply")
	}
	f := from.WhichOneof(from.Descriptor().Oneofs().Get(0))
	if f == nil {
		return errors.New("a google.protobuf.Value holds nothing")
	}
	v := from.Get(f)
	switch f.Number() {
	case valueNumber:
		return e.float(v.Float(), 64)
	case valueString:
		return e.text(v.String())
	case valueBool:
		e.out = strconv.AppendBool(e.out, v.Bool())
	case valueStruct:
		return e.dynamicStruct(v.Message(), depth+1)
	case valueList:
		return e.dynamicList(v.Message(), depth+1)
	default:
		e.out = append(e.out, "null"...)
	}
	return nil
}

func (e *encoder) text(s string) error {
	var err error
	e.out, err = jsontext.AppendQuote(e.out, s)
	return err // not valid UTF-8
}

// float writes the shortest digits that read back as the same number.
func (e *encoder) float(f float64, bits int) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errors.New("a number is not finite")
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	e.out = strconv.AppendFloat(e.out, f, format, -1, bits)
	return nil
}
