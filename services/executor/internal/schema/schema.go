// Package schema writes the JSON Schema (draft 2020-12) of a message: what a
// model must write to have it accepted, or what it will get.
//
// Types, names and required fields say the same as package transcode, and rules
// say the same as protovalidate, wherever JSON Schema has a word for it. Where
// it has none (rules in CEL, exclusive groups of fields, lengths of bytes) the
// schema is wider, and a sentence in a description says the rest. Keywords that
// model APIs refuse at the root (oneOf, anyOf, allOf, $schema) are not used
// there.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// Bounds on a schema. The first is a limit of the contract.
const (
	maxBytes = 262144
	maxNodes = 20000
)

// Required tells which fields of a type must be given.
type Required func(protoreflect.MessageDescriptor) (map[protoreflect.FieldNumber]bool, error)

// Input returns the schema of a tool's arguments.
func Input(m protoreflect.MessageDescriptor, required Required) ([]byte, error) {
	return write(m, &writer{input: true, required: required, headers: make(map[string]bool)})
}

// Output returns the schema of a tool's result. Fields without presence are
// always there, so they are required.
func Output(m protoreflect.MessageDescriptor) ([]byte, error) {
	return write(m, &writer{required: func(m protoreflect.MessageDescriptor) (map[protoreflect.FieldNumber]bool, error) {
		always := make(map[protoreflect.FieldNumber]bool)
		for i := range m.Fields().Len() {
			if f := m.Fields().Get(i); !f.HasPresence() {
				always[f.Number()] = true
			}
		}
		return always, nil
	}})
}

func write(m protoreflect.MessageDescriptor, w *writer) ([]byte, error) {
	var err error
	if w.recursive, err = recursive(m); err != nil {
		return nil, err
	}
	w.defs = make(map[protoreflect.FullName]*node)
	root, err := w.object(m, true)
	if err != nil {
		return nil, err
	}
	if len(w.defs) > 0 {
		root.Defs = w.defs
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	if b.Len() > maxBytes {
		return nil, fmt.Errorf("schema of %s has %d bytes: must be at most %d", m.FullName(), b.Len(), maxBytes)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

type writer struct {
	input     bool
	required  Required
	headers   map[string]bool
	recursive map[protoreflect.FullName]bool
	defs      map[protoreflect.FullName]*node
	nodes     int
}

// object returns the schema of a message as an object of its fields.
func (w *writer) object(m protoreflect.MessageDescriptor, root bool) (*node, error) {
	n := &node{Type: "object", Properties: new(properties), Additional: false}
	if !root { // what the root is, the tool's own description says
		n.Description = comment(m)
	}
	own, err := protovalidate.ResolveMessageRules(m)
	if err != nil {
		return nil, err
	}
	n.say(celTexts(own.GetCel()))
	for _, group := range own.GetOneof() {
		n.say([]string{groupText(group.GetFields(), group.GetRequired())})
	}
	for i := range m.Oneofs().Len() {
		o := m.Oneofs().Get(i)
		if o.IsSynthetic() {
			continue
		}
		r, err := protovalidate.ResolveOneofRules(o)
		if err != nil {
			return nil, err
		}
		var names []string
		for j := range o.Fields().Len() {
			names = append(names, string(o.Fields().Get(j).Name()))
		}
		n.say([]string{groupText(names, r.GetRequired())})
	}
	required, err := w.required(m)
	if err != nil {
		return nil, err
	}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		p, err := w.field(f, root)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		n.Properties.list = append(n.Properties.list, property{string(f.Name()), p})
		if required[f.Number()] || f.Cardinality() == protoreflect.Required {
			n.Required = append(n.Required, string(f.Name()))
		}
	}
	return n, nil
}

func groupText(names []string, required bool) string {
	if required {
		return "Give exactly one of: " + strings.Join(names, ", ") + "."
	}
	return "Give at most one of: " + strings.Join(names, ", ") + "."
}

func (w *writer) field(f protoreflect.FieldDescriptor, root bool) (*node, error) {
	rules, err := protovalidate.ResolveFieldRules(f)
	if err != nil {
		return nil, err
	}
	r := ruleSet{rules: rules, presence: f.HasPresence(), optional: f.HasPresence()}
	var n *node
	switch {
	case f.IsMap():
		n, err = w.mapping(f, r)
	case f.IsList():
		if n, err = w.list(f, r); err != nil {
			return nil, err
		}
	default:
		n, err = w.value(f, r)
		if err == nil && w.input && nullable(f) && (r.off() || !rules.GetRequired()) {
			n.orNull()
		}
	}
	if err != nil {
		return nil, err
	}
	own := comment(f)
	if own != "" && n.Description != "" && n.Ref == "" {
		own += "\n" + n.Description
	}
	if own != "" {
		n.Description = own
	}
	n.say(celTexts(rules.GetCel()))
	if f.Enum() != nil {
		n.say(enumTexts(f.Enum(), n))
	}
	return n, w.header(f, n, root)
}

// header adds what MCP calls x-mcp-header. A client drops the whole tool if it
// is not right, so what is not right is an error here.
func (w *writer) header(f protoreflect.FieldDescriptor, n *node, root bool) error {
	argument, _ := proto.GetExtension(f.Options(), toolv1.E_Argument).(*toolv1.Argument)
	name := argument.GetHeader()
	if name == "" || !w.input {
		return nil
	}
	switch f.Kind() {
	case protoreflect.StringKind, protoreflect.BoolKind, protoreflect.Int32Kind, protoreflect.Sint32Kind,
		protoreflect.Sfixed32Kind, protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
	default:
		return fmt.Errorf("header %q: only for strings, 32-bit integers and booleans", name)
	}
	switch lower := strings.ToLower(name); {
	case !root || f.Cardinality() == protoreflect.Repeated:
		return fmt.Errorf("header %q: only for single fields of the request itself", name)
	case argument.GetSensitive():
		return fmt.Errorf("header %q: never for secrets", name)
	case !headerName(name):
		return fmt.Errorf("header %q: not a header's name", name)
	case w.headers[lower]:
		return fmt.Errorf("header %q: used twice", name)
	default:
		w.headers[lower] = true
	}
	n.Header = name
	return nil
}

func headerName(s string) bool {
	for _, c := range []byte(s) {
		if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(s) <= 64
}

func (w *writer) list(f protoreflect.FieldDescriptor, r ruleSet) (*node, error) {
	items, err := w.value(f, ruleSet{rules: r.rules.GetRepeated().GetItems(), presence: true})
	if err != nil {
		return nil, err
	}
	n := &node{Type: "array", Items: items}
	if !r.off() {
		own := r.rules.GetRepeated()
		n.MinItems, n.Unique = atLeast(own.GetMinItems(), r.nonZero()), own.GetUnique()
		if own != nil {
			n.MaxItems = own.MaxItems
		}
		if r.zeroAllowed() && n.MinItems != nil {
			n.AnyOf = []*node{{MaxItems: new(uint64)}, {MinItems: n.MinItems}}
			n.MinItems = nil
		}
	}
	return n, nil
}

func (w *writer) mapping(f protoreflect.FieldDescriptor, r ruleSet) (*node, error) {
	values, err := w.value(f.MapValue(), ruleSet{rules: r.rules.GetMap().GetValues(), presence: true})
	if err != nil {
		return nil, err
	}
	n := &node{Type: "object", Additional: values}
	switch f.MapKey().Kind() {
	case protoreflect.StringKind:
		keys := ruleSet{rules: r.rules.GetMap().GetKeys(), presence: true}
		names, err := w.value(f.MapKey(), keys)
		if err != nil {
			return nil, err
		}
		names.Type = nil // a name is always a string
		if !names.empty() {
			n.PropertyNames = names
		}
	case protoreflect.BoolKind:
		n.PropertyNames = &node{Enum: []any{"false", "true"}}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n.PropertyNames = &node{Pattern: "^(0|[1-9][0-9]*)$"}
	default:
		n.PropertyNames = &node{Pattern: "^(0|-?[1-9][0-9]*)$"}
	}
	if keys := r.rules.GetMap().GetKeys(); f.MapKey().Kind() != protoreflect.StringKind && !r.off() && !(ruleSet{rules: keys}).off() {
		n.PropertyNames.say(ruleTexts(typed(keys)))
	}
	if !r.off() {
		own := r.rules.GetMap()
		n.MinProperties = atLeast(own.GetMinPairs(), r.nonZero())
		if own != nil {
			n.MaxProperties = own.MaxPairs
		}
		if r.zeroAllowed() && n.MinProperties != nil {
			n.AnyOf = []*node{{MaxProperties: new(uint64)}, {MinProperties: n.MinProperties}}
			n.MinProperties = nil
		}
	}
	return n, nil
}

// atLeast is a minimum, or nil if it says nothing.
func atLeast(n uint64, nonZero bool) *uint64 {
	if nonZero {
		n = max(n, 1)
	}
	if n == 0 {
		return nil
	}
	return &n
}
