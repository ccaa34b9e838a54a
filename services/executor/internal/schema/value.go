package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/transcode"
)

// value returns the schema of one value: of a field, an element or an entry.
func (w *writer) value(f protoreflect.FieldDescriptor, r ruleSet) (*node, error) {
	if w.nodes++; w.nodes > maxNodes {
		return nil, fmt.Errorf("schema has more than %d parts", maxNodes)
	}
	n := &node{}
	kind := f.Kind()
	if f.Message() != nil && wellKnown(f.Message()) {
		if inner := unwrap(f.Message()); inner != nil {
			kind = inner.Kind()
		} else {
			n, err := wellKnownNode(f.Message())
			if err == nil && !r.off() {
				for _, rules := range []protoreflect.ProtoMessage{r.rules.GetTimestamp(), r.rules.GetDuration(), r.rules.GetFieldMask()} {
					n.say(ruleTexts(rules.ProtoReflect()))
				}
			}
			return n, err
		}
	}
	switch kind {
	case protoreflect.BoolKind:
		n.Type = "boolean"
		r.boolean(n)
	case protoreflect.StringKind:
		n.Type = "string"
		r.text(n)
	case protoreflect.BytesKind:
		n.Type, n.ContentEncoding = "string", "base64"
		r.bytes(n)
	case protoreflect.EnumKind:
		n.Type = "string"
		r.enum(n, f.Enum())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return w.nested(f.Message())
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		n.Type = "number"
		r.number(n, kind)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind,
		protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		w.integer64(n, kind, r)
	default:
		n.Type = "integer"
		r.number(n, kind)
	}
	if r.zeroAllowed() {
		if zero := zerosOf(kind); zero != nil {
			n = &node{AnyOf: []*node{among(zero), n}}
		}
	}
	return n, nil
}

// integer64 is a number or, because few programs can write one beyond 2^53
// exactly, a string of digits. Results have strings only.
func (w *writer) integer64(n *node, kind protoreflect.Kind, r ruleSet) {
	n.Pattern = "^(0|-?[1-9][0-9]*)$"
	if kind == protoreflect.Uint64Kind || kind == protoreflect.Fixed64Kind {
		n.Pattern = "^(0|[1-9][0-9]*)$"
	}
	if !w.input {
		n.Type = "string"
		return
	}
	n.Type = []string{"integer", "string"}
	r.number(n, kind)
	if n.Const != nil {
		n.Enum, n.Const = []any{n.Const}, nil
	}
	for _, list := range []*[]any{&n.Enum, n.notIn()} {
		if list == nil {
			continue
		}
		for _, v := range *list {
			*list = append(*list, fmt.Sprint(v))
		}
	}
}

// among returns the schema of some values.
func among(values []any) *node {
	if len(values) == 1 {
		return &node{Const: values[0]}
	}
	return &node{Enum: values}
}

// notIn returns the values that a rule forbids, or nil.
func (n *node) notIn() *[]any {
	for _, all := range n.AllOf {
		if all.Not != nil && all.Not.Enum != nil {
			return &all.Not.Enum
		}
	}
	return nil
}

func (w *writer) nested(m protoreflect.MessageDescriptor) (*node, error) {
	if !w.recursive[m.FullName()] {
		return w.object(m, false)
	}
	ref := &node{Ref: "#/$defs/" + string(m.FullName())}
	if _, ok := w.defs[m.FullName()]; ok {
		return ref, nil
	}
	w.defs[m.FullName()] = nil // it is being written further up
	n, err := w.object(m, false)
	if err != nil {
		return nil, err
	}
	w.defs[m.FullName()] = n
	return ref, nil
}

// unwrap returns the value field of StringValue and the like.
func unwrap(m protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if strings.HasSuffix(string(m.Name()), "Value") && m.Name() != "Value" && m.Name() != "ListValue" {
		return m.Fields().ByNumber(1)
	}
	return nil
}

func nullable(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && wellKnown(f.Message()) && unwrap(f.Message()) != nil
}

func wellKnownNode(m protoreflect.MessageDescriptor) (*node, error) {
	switch m.Name() {
	case "Timestamp":
		return &node{Type: "string", Format: "date-time"}, nil
	case "Duration":
		return &node{
			Type: "string", Pattern: transcode.DurationPattern,
			Description: `A duration in seconds, such as "1.5s".`,
		}, nil
	case "FieldMask":
		return &node{Type: "string", Description: "Names of fields in lowerCamelCase with commas between them."}, nil
	case "Struct":
		return &node{Type: "object", Additional: true}, nil
	case "ListValue":
		return &node{Type: "array"}, nil
	case "Value":
		return &node{}, nil
	}
	return nil, fmt.Errorf("%s cannot be in a tool's messages", m.FullName())
}

// enum lists the names that the rules leave.
func (r ruleSet) enum(n *node, e protoreflect.EnumDescriptor) {
	rules := r.rules.GetEnum()
	in := slices.Contains[[]int32]
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		number := int32(v.Number())
		if !r.off() {
			if number == 0 && r.zeroAllowed() {
				n.Enum = append(n.Enum, string(v.Name()))
				continue
			}
			if len(rules.GetIn()) > 0 && !in(rules.GetIn(), number) || in(rules.GetNotIn(), number) ||
				rules != nil && rules.Const != nil && rules.GetConst() != number || number == 0 && r.nonZero() {
				continue
			}
		}
		n.Enum = append(n.Enum, string(v.Name()))
	}
}

// enumTexts explains the values of an enum that n still allows.
func enumTexts(e protoreflect.EnumDescriptor, n *node) []string {
	allowed := n.Enum
	if n.Items != nil {
		allowed = n.Items.Enum
	}
	var texts []string
	for _, name := range allowed {
		name, ok := name.(string)
		if !ok {
			continue
		}
		if said := comment(e.Values().ByName(protoreflect.Name(name))); said != "" {
			texts = append(texts, name+": "+said)
		}
	}
	return texts
}

// zerosOf are the zero values of a kind in JSON, if rules can let one pass that
// they would not allow otherwise. Those of enums and booleans are seen to where
// their values are.
func zerosOf(kind protoreflect.Kind) []any {
	switch kind {
	case protoreflect.StringKind, protoreflect.BytesKind:
		return []any{""}
	case protoreflect.BoolKind, protoreflect.EnumKind, protoreflect.MessageKind, protoreflect.GroupKind:
		return nil
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind,
		protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return []any{json.Number("0"), "0"}
	}
	return []any{json.Number("0")}
}
