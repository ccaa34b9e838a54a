package audit

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// Arguments describes the arguments of a call without their values: the SHA-256
// of their exact bytes, and their shape.
func Arguments(sha256 []byte, shape string) *auditv1.Arguments {
	return &auditv1.Arguments{Sha256: sha256, Shape: shape}
}

// clipEvent cuts texts to the length that their rule in the proto file allows.
// Refusing instead would let a client choose between being recorded and being
// served. A test compares these numbers with the rules.
func clipEvent(e *auditv1.Event) {
	clip(&e.Service, 64)
	clip(&e.Node, 128)
	clip(&e.DecisionId, 64)
	clip(&e.Action, 128)
	clip(&e.Target, 512)
	if a := e.GetActor(); a != nil {
		clip(&a.Principal, 256)
		clip(&a.CredentialId, 64)
		clip(&a.Tenant, 64)
		clip(&a.Address, 64)
		clip(&a.Client, 256)
		clip(&a.ContextId, 256)
	}
	if d := e.GetDecision(); d != nil {
		clip(&d.Rule, 128)
		clip(&d.RuleSource, 256)
		clip(&d.Message, 1024)
		clipArguments(d.GetArguments())
	}
	if i := e.GetIntent(); i != nil {
		clip(&i.Service, 128)
		clipArguments(i.GetArguments())
	}
	if a := e.GetAdmin(); a != nil {
		clip(&a.Operation, 64)
		clip(&a.Object, 256)
	}
}

func clipArguments(a *auditv1.Arguments) {
	if a != nil {
		clip(&a.Shape, 2048)
	}
}

func clip(s *string, limit int) {
	if len(*s) > limit { // nearly never
		*s = clipped(*s, limit)
	}
}

// clipped returns the longest beginning of s that has at most limit bytes and
// does not end within a character.
func clipped(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// repairText replaces what is not UTF-8 in all texts of m.
func repairText(m protoreflect.Message) {
	repair := func(v protoreflect.Value) protoreflect.Value {
		return protoreflect.ValueOfString(strings.ToValidUTF8(v.String(), "?"))
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		text, message := f.Kind() == protoreflect.StringKind, f.Kind() == protoreflect.MessageKind
		switch {
		case f.IsMap():
			if f.MapKey().Kind() != protoreflect.StringKind || f.MapValue().Kind() != protoreflect.StringKind {
				break
			}
			fixed := make(map[string]protoreflect.Value, v.Map().Len())
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				fixed[strings.ToValidUTF8(k.String(), "?")] = repair(v)
				return true
			})
			m.Clear(f)
			for k, v := range fixed {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString(k).MapKey(), v)
			}
		case f.IsList() && text:
			for i := range v.List().Len() {
				v.List().Set(i, repair(v.List().Get(i)))
			}
		case f.IsList():
			for i := range v.List().Len() {
				if message {
					repairText(v.List().Get(i).Message())
				}
			}
		case text:
			m.Set(f, repair(v))
		case message:
			repairText(v.Message())
		}
		return true
	})
}
