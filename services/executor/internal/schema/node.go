package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// node is a JSON Schema. The order of its fields is the order of the keywords.
type node struct {
	Ref              string      `json:"$ref,omitempty"`
	Description      string      `json:"description,omitempty"`
	Type             any         `json:"type,omitempty"`
	Const            any         `json:"const,omitempty"`
	Enum             []any       `json:"enum,omitempty"`
	Format           string      `json:"format,omitempty"`
	Pattern          string      `json:"pattern,omitempty"`
	MinLength        *uint64     `json:"minLength,omitempty"`
	MaxLength        *uint64     `json:"maxLength,omitempty"`
	ContentEncoding  string      `json:"contentEncoding,omitempty"`
	Minimum          json.Number `json:"minimum,omitempty"`
	ExclusiveMinimum json.Number `json:"exclusiveMinimum,omitempty"`
	Maximum          json.Number `json:"maximum,omitempty"`
	ExclusiveMaximum json.Number `json:"exclusiveMaximum,omitempty"`
	Items            *node       `json:"items,omitempty"`
	MinItems         *uint64     `json:"minItems,omitempty"`
	MaxItems         *uint64     `json:"maxItems,omitempty"`
	Unique           bool        `json:"uniqueItems,omitempty"`
	Properties       *properties `json:"properties,omitempty"`
	Required         []string    `json:"required,omitempty"`
	PropertyNames    *node       `json:"propertyNames,omitempty"`
	Additional       any         `json:"additionalProperties,omitempty"`
	MinProperties    *uint64     `json:"minProperties,omitempty"`
	MaxProperties    *uint64     `json:"maxProperties,omitempty"`
	Not              *node       `json:"not,omitempty"`
	AnyOf            []*node     `json:"anyOf,omitempty"`
	AllOf            []*node     `json:"allOf,omitempty"`
	Header           string      `json:"x-mcp-header,omitempty"`
	Defs             definitions `json:"$defs,omitempty"`
}

type definitions map[protoreflect.FullName]*node

// properties is an object whose members keep their order: the order in the
// proto file is the one a person would explain them in.
type properties struct{ list []property }

type property struct {
	name string
	node *node
}

// MarshalJSON implements [json.Marshaler].
func (p *properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range p.list {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(m.name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(m.node); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// say adds sentences to the description.
func (n *node) say(sentences []string) {
	for _, s := range sentences {
		if n.Description != "" {
			n.Description += "\n"
		}
		n.Description += s
	}
}

// also demands something more of a string: the first pattern has the keyword
// to itself.
func (n *node) also(pattern string) {
	if n.Pattern == "" {
		n.Pattern = pattern
		return
	}
	n.AllOf = append(n.AllOf, &node{Pattern: pattern})
}

// orNull lets a value be null as well.
func (n *node) orNull() {
	if n.Const != nil {
		n.Enum, n.Const = []any{n.Const}, nil
	}
	if n.Enum != nil {
		n.Enum = append(n.Enum, nil)
	}
	switch t := n.Type.(type) {
	case string:
		n.Type = []string{t, "null"}
	case []string:
		n.Type = append(slices.Clone(t), "null")
	default: // it is in the alternatives
		n.AnyOf = append(n.AnyOf, &node{Type: "null"})
	}
}

func (n *node) empty() bool {
	b, err := json.Marshal(n)
	return err == nil && string(b) == "{}"
}

// comment returns what the proto file says above (or behind) a name, as
// paragraphs without the line breaks that only served the file.
func comment(d protoreflect.Descriptor) string {
	at := d.ParentFile().SourceLocations().ByDescriptor(d)
	text := at.LeadingComments
	if strings.TrimSpace(text) == "" {
		text = at.TrailingComments
	}
	return Prose(text)
}

// Prose makes paragraphs of a comment. Lines of a list stay lines.
func Prose(comment string) string {
	var b strings.Builder
	broken := true // whether the next line starts a new one
	for line := range strings.Lines(strings.ToValidUTF8(comment, "")) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			if !broken {
				b.WriteString("\n\n")
			}
			broken = true
			continue
		case broken:
		case strings.HasPrefix(line, "- "), strings.HasPrefix(line, "* "):
			b.WriteByte('\n')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(line)
		broken = false
	}
	return strings.TrimSpace(b.String())
}

// recursive returns the messages that can contain themselves.
func recursive(root protoreflect.MessageDescriptor) (map[protoreflect.FullName]bool, error) {
	found := make(map[protoreflect.FullName]bool)
	all := make(map[protoreflect.FullName]protoreflect.MessageDescriptor)
	reach(root, all)
	if len(all) > maxTypes {
		return nil, fmt.Errorf("more than %d types of message in %s", maxTypes, root.FullName())
	}
	for name, m := range all {
		inside := make(map[protoreflect.FullName]protoreflect.MessageDescriptor)
		for i := range m.Fields().Len() {
			if child := contained(m.Fields().Get(i)); child != nil {
				reach(child, inside)
			}
		}
		found[name] = inside[name] != nil
	}
	return found, nil
}

// maxTypes bounds the quadratic search of recursive.
const maxTypes = 300

func reach(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]protoreflect.MessageDescriptor) {
	if seen[m.FullName()] != nil {
		return
	}
	seen[m.FullName()] = m
	for i := range m.Fields().Len() {
		if child := contained(m.Fields().Get(i)); child != nil {
			reach(child, seen)
		}
	}
}

// contained returns the message in a field, unless its schema is fixed.
func contained(f protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	if f.IsMap() {
		f = f.MapValue()
	}
	if m := f.Message(); m != nil && !wellKnown(m) {
		return m
	}
	return nil
}

func wellKnown(m protoreflect.MessageDescriptor) bool {
	return strings.HasPrefix(m.ParentFile().Path(), "google/protobuf/") && m.Name() != "Empty"
}
