// Package transcode turns the JSON arguments of a tool into its request
// message, and its response message into JSON, by plans that are made once for
// each tool.
//
// It accepts exactly what the published JSON Schema says of names and types: no
// second spelling of a name, no number in a string, no null for "absent". What
// is wrong is told by JSON Pointer in words a model can act on, never by value.
// Rules on values are not its business: see package rules.
package transcode

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Bounds on what a plan may describe and what results may hold. Those on
// arguments are package strictjson's.
const (
	maxMessages   = 1000 // types in one plan
	maxDepth      = 64   // nesting of results
	maxViolations = 32   // told at once
)

// Plan knows how to read and write one type of message. It is safe for
// concurrent use.
type Plan struct {
	root     *message
	decoders sync.Pool
}

// NewPlan returns the plan for a type. Required tells which fields of a type
// must be given; nil means none.
func NewPlan(desc protoreflect.MessageDescriptor, required func(protoreflect.MessageDescriptor) (map[protoreflect.FieldNumber]bool, error)) (*Plan, error) {
	if required == nil {
		required = func(protoreflect.MessageDescriptor) (map[protoreflect.FieldNumber]bool, error) { return nil, nil }
	}
	p := planner{required: required, done: make(map[protoreflect.FullName]*message)}
	root, err := p.message(desc)
	if err != nil {
		return nil, err
	}
	if root.special != plain {
		return nil, fmt.Errorf("%s is not an object in JSON", desc.FullName())
	}
	return &Plan{
		root:     root,
		decoders: sync.Pool{New: func() any { return new(decoder) }},
	}, nil
}

// New returns an empty message of the plan's type.
func (p *Plan) New() *dynamicpb.Message { return dynamicpb.NewMessage(p.root.desc) }

// special is how a message is written in JSON.
type special int

const (
	plain     special = iota // an object of its fields
	text                     // Timestamp, Duration, FieldMask: a string
	wrapper                  // StringValue and so on: their value
	structure                // Struct
	value                    // Value
	list                     // ListValue
)

type message struct {
	desc    protoreflect.MessageDescriptor
	special special
	fields  []*field
	byName  map[string]*field
	aliases map[string]string // lowerCamelCase name to the published one
	names   string            // for people, sorted as declared
	needed  int               // required fields
}

type field struct {
	desc     protoreflect.FieldDescriptor
	name     string
	prefix   []byte // `"name":`
	index    int    // in message.fields
	required bool
	nullable bool
	oneof    protoreflect.OneofDescriptor // nil for one made for "optional"
	scalar   *scalar                      // of the field, element or map value
	key      *scalar                      // of a map
}

// scalar is the plan of a single value, a message included.
type scalar struct {
	kind    protoreflect.Kind
	message *message
	enum    protoreflect.EnumDescriptor
	want    string
	pattern *regexp.Regexp // of a text; nil is any
}

type planner struct {
	required func(protoreflect.MessageDescriptor) (map[protoreflect.FieldNumber]bool, error)
	done     map[protoreflect.FullName]*message
}

func (p *planner) message(desc protoreflect.MessageDescriptor) (*message, error) {
	if m := p.done[desc.FullName()]; m != nil {
		return m, nil
	}
	if len(p.done) >= maxMessages {
		return nil, fmt.Errorf("more than %d types of message", maxMessages)
	}
	m := &message{desc: desc, byName: make(map[string]*field), aliases: make(map[string]string)}
	p.done[desc.FullName()] = m // before its fields: types may be recursive
	var ok bool
	if m.special, ok = specialOf(desc); !ok {
		return nil, fmt.Errorf("%s cannot be in a tool's messages", desc.FullName())
	}
	if m.special != plain && m.special != wrapper {
		return m, nil
	}
	if desc.IsPlaceholder() {
		return nil, fmt.Errorf("%s is not described", desc.FullName())
	}
	required, err := p.required(desc)
	if err != nil {
		return nil, err
	}
	for i := range desc.Fields().Len() {
		f, err := p.field(desc.Fields().Get(i))
		if err != nil {
			return nil, err
		}
		f.index, f.required = i, required[f.desc.Number()] || f.desc.Cardinality() == protoreflect.Required
		if f.required {
			m.needed++
		}
		m.fields, m.byName[f.name] = append(m.fields, f), f
		if alias := f.desc.JSONName(); alias != f.name {
			m.aliases[alias] = f.name
		}
		if i > 0 {
			m.names += ", "
		}
		m.names += f.name
	}
	return m, nil
}

func (p *planner) field(desc protoreflect.FieldDescriptor) (*field, error) {
	f := &field{desc: desc, name: string(desc.Name())}
	quoted, err := json.Marshal(f.name)
	if err != nil {
		return nil, err
	}
	f.prefix = append(quoted, ':')
	if o := desc.ContainingOneof(); o != nil && !o.IsSynthetic() {
		f.oneof = o
	}
	of := desc
	if desc.IsMap() {
		if f.key, err = p.scalar(desc.MapKey()); err != nil {
			return nil, err
		}
		of = desc.MapValue()
	}
	if f.scalar, err = p.scalar(of); err != nil {
		return nil, err
	}
	f.nullable = desc.Cardinality() != protoreflect.Repeated &&
		f.scalar.message != nil && f.scalar.message.special == wrapper
	return f, nil
}

func (p *planner) scalar(desc protoreflect.FieldDescriptor) (*scalar, error) {
	s := &scalar{kind: desc.Kind(), want: wants[desc.Kind()]}
	switch s.kind {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		m, err := p.message(desc.Message())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", desc.Name(), err)
		}
		s.message = m
		switch m.special {
		case text:
			s.want = textWants[desc.Message().FullName()]
			if m.desc.Name() == "Duration" {
				s.pattern = durations
			}
		case wrapper:
			s.want = m.fields[0].scalar.want
		case list:
			s.want = "an array"
		}
	case protoreflect.EnumKind:
		if desc.Enum().FullName() == "google.protobuf.NullValue" || desc.Enum().IsPlaceholder() {
			return nil, fmt.Errorf("%s: %s cannot be in a tool's messages", desc.Name(), desc.Enum().FullName())
		}
		s.enum = desc.Enum()
	}
	return s, nil
}

func specialOf(desc protoreflect.MessageDescriptor) (special, bool) {
	// By file as well: only ours has the fields that the rest relies on.
	if desc.FullName().Parent() != "google.protobuf" || !strings.HasPrefix(desc.ParentFile().Path(), "google/protobuf/") {
		return plain, true
	}
	switch desc.Name() {
	case "Timestamp", "Duration", "FieldMask":
		return text, true
	case "Struct":
		return structure, true
	case "Value":
		return value, true
	case "ListValue":
		return list, true
	case "BoolValue", "StringValue", "BytesValue", "Int32Value", "UInt32Value",
		"Int64Value", "UInt64Value", "FloatValue", "DoubleValue":
		return wrapper, true
	case "Empty":
		return plain, true
	}
	return plain, false // Any above all: its type is whatever the sender says
}
