package toollint

import (
	"regexp/syntax"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// unbounded says what rule a field lacks that would bound it, or nothing.
func unbounded(f protoreflect.FieldDescriptor) string {
	rules, _ := proto.GetExtension(f.Options(), validate.E_Field).(*validate.FieldRules)
	switch {
	case f.IsMap():
		if !rules.GetMap().HasMaxPairs() {
			return "set (buf.validate.field).map.max_pairs"
		}
		if lacks := single(f.MapKey(), rules.GetMap().GetKeys(), "map.keys."); lacks != "" {
			return lacks
		}
		return single(f.MapValue(), rules.GetMap().GetValues(), "map.values.")
	case f.IsList():
		if !rules.GetRepeated().HasMaxItems() {
			return "set (buf.validate.field).repeated.max_items"
		}
		return single(f, rules.GetRepeated().GetItems(), "repeated.items.")
	}
	return single(f, rules, "")
}

// single is about one value. Those of most types have the size of their type.
func single(f protoreflect.FieldDescriptor, rules *validate.FieldRules, path string) string {
	switch f.Kind() {
	case protoreflect.StringKind:
		if !boundedString(rules.GetString()) {
			return "set (buf.validate.field)." + path + "string.max_len, or a pattern that ends"
		}
	case protoreflect.BytesKind:
		if !boundedBytes(rules.GetBytes()) {
			return "set (buf.validate.field)." + path + "bytes.max_len"
		}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		switch f.Message().FullName() {
		case "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue", "google.protobuf.Any":
			if len(rules.GetCel()) == 0 {
				return "any JSON fits into it; declare a message of what you need, or say what it may be in (buf.validate.field)." + path + "cel"
			}
		case "google.protobuf.StringValue":
			if !boundedString(rules.GetString()) {
				return "set (buf.validate.field)." + path + "string.max_len, or a pattern that ends"
			}
		case "google.protobuf.BytesValue":
			if !boundedBytes(rules.GetBytes()) {
				return "set (buf.validate.field)." + path + "bytes.max_len"
			}
		}
	}
	return ""
}

func boundedString(r *validate.StringRules) bool {
	return r != nil && (r.MaxLen != nil || r.MaxBytes != nil || r.Len != nil || r.LenBytes != nil || r.Const != nil || len(r.GetIn()) > 0 ||
		r.GetWellKnown() != nil || ends(r.GetPattern()))
}

func boundedBytes(r *validate.BytesRules) bool {
	return r != nil && (r.MaxLen != nil || r.Len != nil || r.Const != nil || len(r.GetIn()) > 0 || r.GetWellKnown() != nil)
}

// ends reports whether a pattern matches only texts up to some length: it holds
// the start and the end, and repeats nothing without end.
func ends(pattern string) bool {
	p, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil || p.Op != syntax.OpConcat || len(p.Sub) < 2 {
		return false
	}
	first, last := p.Sub[0].Op, p.Sub[len(p.Sub)-1].Op
	return first == syntax.OpBeginText && last == syntax.OpEndText && !endless(p)
}

func endless(p *syntax.Regexp) bool {
	if p.Op == syntax.OpStar || p.Op == syntax.OpPlus || p.Op == syntax.OpRepeat && p.Max < 0 {
		return true
	}
	for _, sub := range p.Sub {
		if endless(sub) {
			return true
		}
	}
	return false
}
