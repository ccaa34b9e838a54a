// Package rules reads and applies the protovalidate rules of tools' messages:
// which fields must be given, whether a message keeps its rules, and if not, in
// what words to say so.
package rules

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

const maxViolations = 32

// Checker applies the rules of some types of message. Everything is compiled
// when it is made, so a rule that does not compile is known then. It is safe for
// concurrent use.
type Checker struct {
	validator protovalidate.Validator
	said      map[string]string // texts of CEL rules by id
}

// NewChecker returns a checker for the given types and those they contain.
func NewChecker(types ...protoreflect.MessageDescriptor) (*Checker, error) {
	v, err := protovalidate.New(protovalidate.WithMessageDescriptors(types...), protovalidate.WithDisableLazy())
	if err != nil {
		return nil, fmt.Errorf("compile rules: %w", err)
	}
	c := &Checker{validator: v, said: make(map[string]string)}
	seen := make(map[protoreflect.FullName]bool)
	for _, t := range types {
		if err := c.collect(t, seen); err != nil {
			return nil, err
		}
		// A type whose rules do not compile fails on every message.
		var broken *protovalidate.ValidationError
		if err := v.Validate(dynamicpb.NewMessage(t)); err != nil && !errors.As(err, &broken) {
			return nil, fmt.Errorf("compile rules of %s: %w", t.FullName(), err)
		}
	}
	return c, nil
}

// collect remembers what the CEL rules say of themselves.
func (c *Checker) collect(t protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) error {
	if seen[t.FullName()] {
		return nil
	}
	seen[t.FullName()] = true
	own, err := protovalidate.ResolveMessageRules(t)
	if err != nil {
		return fmt.Errorf("read rules of %s: %w", t.FullName(), err)
	}
	c.remember(own.GetCel())
	for i := range t.Fields().Len() {
		f := t.Fields().Get(i)
		r, err := protovalidate.ResolveFieldRules(f)
		if err != nil {
			return fmt.Errorf("read rules of %s: %w", f.FullName(), err)
		}
		for _, r := range []*validate.FieldRules{
			r, r.GetRepeated().GetItems(), r.GetMap().GetKeys(), r.GetMap().GetValues(),
		} {
			c.remember(r.GetCel())
		}
		if list := r.GetRepeated(); f.IsList() && wraps(f) && (list.HasMinItems() || list.HasMaxItems() || list.GetUnique()) {
			return fmt.Errorf("%s: protovalidate does not enforce min_items, max_items and unique on a list of wrappers; make it one of plain values", f.FullName())
		}
		if f.IsMap() {
			f = f.MapValue()
		}
		if f.Message() != nil {
			if err := c.collect(f.Message(), seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// wraps reports whether the values of a field are StringValue or the like.
func wraps(f protoreflect.FieldDescriptor) bool {
	m := f.Message()
	return m != nil && m.FullName().Parent() == "google.protobuf" && m.Name() != "Value" && m.Name() != "ListValue" &&
		strings.HasSuffix(string(m.Name()), "Value")
}

func (c *Checker) remember(rules []*validate.Rule) {
	for _, r := range rules {
		if r.GetMessage() != "" {
			c.said[r.GetId()] = r.GetMessage()
		}
	}
}

// Required returns the fields that a message of this type must have: those
// that an empty one breaks a rule about.
func (c *Checker) Required(t protoreflect.MessageDescriptor) (map[protoreflect.FieldNumber]bool, error) {
	err := c.validator.Validate(dynamicpb.NewMessage(t))
	if err == nil {
		return nil, nil
	}
	broken, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return nil, fmt.Errorf("apply rules of %s: %w", t.FullName(), err)
	}
	required := make(map[protoreflect.FieldNumber]bool)
	for _, v := range broken.Violations {
		path := v.Proto.GetField().GetElements()
		if len(path) != 1 {
			continue
		}
		// A oneof has a name but no number.
		if f := t.Fields().ByName(protoreflect.Name(path[0].GetFieldName())); f != nil {
			required[f.Number()] = true
		}
	}
	return required, nil
}

// Check returns the rules that m breaks, at most 32, and an error if the rules
// could not be applied.
func (c *Checker) Check(m proto.Message) ([]*executorv1.Violation, error) {
	err := c.validator.Validate(m)
	if err == nil {
		return nil, nil
	}
	if _, ok := errors.AsType[*protovalidate.RuntimeError](err); ok {
		// For example a pattern, and bytes that are no text. It fails closed.
		return []*executorv1.Violation{{Message: "a rule cannot be applied to one of the values"}}, nil
	}
	broken, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return nil, fmt.Errorf("apply rules: %w", err)
	}
	var all []*executorv1.Violation
	for _, v := range broken.Violations[:min(len(broken.Violations), maxViolations)] {
		all = append(all, &executorv1.Violation{
			Pointer: shorten(Pointer(v.Proto.GetField())),
			Message: shorten(c.say(v)),
		})
	}
	return all, nil
}

// say puts a violation into words. The text of a standard rule is made of the
// rule alone; that of a CEL rule may be computed and could repeat the value, so
// only what the proto file says is used.
func (c *Checker) say(v *protovalidate.Violation) string {
	id := v.Proto.GetRuleId()
	if id == "required" && v.FieldDescriptor == nil {
		return "one of its fields must be given"
	}
	if rule := v.Proto.GetRule().GetElements(); len(rule) == 0 && id != "message.oneof" ||
		len(rule) > 0 && strings.HasPrefix(rule[len(rule)-1].GetFieldName(), "cel") {
		if text := c.said[id]; text != "" {
			return text
		}
		return "breaks the rule " + strconv.Quote(id)
	}
	switch {
	case id == "required":
		return "is required"
	case strings.HasPrefix(id, "enum."):
		return "must be one of the names in the schema"
	}
	if text := v.Proto.GetMessage(); text != "" {
		return text
	}
	return "breaks the rule " + strconv.Quote(id)
}

// Pointer writes a path of fields as a JSON Pointer (RFC 6901).
func Pointer(path *validate.FieldPath) string {
	var b strings.Builder
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for _, e := range path.GetElements() {
		b.WriteByte('/')
		b.WriteString(escape.Replace(e.GetFieldName()))
		switch s := e.GetSubscript().(type) {
		case *validate.FieldPathElement_Index:
			fmt.Fprintf(&b, "/%d", s.Index)
		case *validate.FieldPathElement_BoolKey:
			fmt.Fprintf(&b, "/%t", s.BoolKey)
		case *validate.FieldPathElement_IntKey:
			fmt.Fprintf(&b, "/%d", s.IntKey)
		case *validate.FieldPathElement_UintKey:
			fmt.Fprintf(&b, "/%d", s.UintKey)
		case *validate.FieldPathElement_StringKey:
			b.WriteString("/" + escape.Replace(s.StringKey))
		}
	}
	return b.String()
}

// shorten keeps a text within the 512 characters of the contract.
func shorten(s string) string {
	if len(s) <= 512 {
		return s
	}
	return strings.ToValidUTF8(s[:509], "") + "…"
}
