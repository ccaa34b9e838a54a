// Package toollint finds what makes a tool hard to use well, or dangerous to
// offer, in its contract: what models read is missing or vague, or what they send
// has no bound.
package toollint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// Bounds on what every conversation has to carry.
const (
	// MaxDescription is what some models' interfaces take, in characters.
	MaxDescription = 1024
	// MaxSchema is in bytes of JSON, input and output together.
	MaxSchema = 16 << 10
)

// Rules are what is looked at, for findings.
const (
	ruleComment = "comment" // what a model reads is missing
	ruleBound   = "bound"   // a caller can send as much as he likes
	ruleName    = "name"    // a name that says nothing
	ruleTwice   = "twice"   // two tools of one name
	ruleSize    = "size"    // more than a conversation should carry
	ruleRisk    = "risk"    // nobody has said what the tool can do
	ruleUses    = "uses"    // a wrong report of what was used costs as much as can be
)

// Finding is one thing to mend.
type Finding struct {
	// File, Line and Column are where, from 1; zero where the image does not say.
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Rule is which.
	Rule string `json:"rule"`
	// Message says what, and what to do.
	Message string `json:"message"`
}

// String is the finding on one line.
func (f Finding) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s [%s]", f.File, f.Message, f.Rule)
	}
	return fmt.Sprintf("%s:%d:%d: %s [%s]", f.File, f.Line, f.Column, f.Message, f.Rule)
}

// Lint looks at the tools of services. definitions are what an executor makes of
// them, by "/package.Service/Method". taken tells which other service has a name
// already, if one has.
func Lint(services []protoreflect.ServiceDescriptor, definitions map[string]*providerv1.ToolDefinition, taken func(tool string) (service string)) []Finding {
	l := &linter{definitions: definitions, taken: taken, seen: make(map[protoreflect.FullName]bool), names: make(map[string]protoreflect.FullName)}
	for _, s := range services {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			if options, ok := proto.GetExtension(m.Options(), toolv1.E_Tool).(*toolv1.Tool); ok && options != nil {
				l.tool(m, options)
			}
		}
	}
	slices.SortStableFunc(l.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return l.found
}

type linter struct {
	definitions map[string]*providerv1.ToolDefinition
	taken       func(string) string
	seen        map[protoreflect.FullName]bool
	names       map[string]protoreflect.FullName
	found       []Finding
}

func (l *linter) add(d protoreflect.Descriptor, rule, format string, args ...any) {
	at := d.ParentFile().SourceLocations().ByDescriptor(d)
	f := Finding{File: d.ParentFile().Path(), Rule: rule, Message: fmt.Sprintf(format, args...)}
	if len(at.Path) > 0 {
		f.Line, f.Column = at.StartLine+1, at.StartColumn+1
	}
	l.found = append(l.found, f)
}

// tool looks at one tool.
func (l *linter) tool(m protoreflect.MethodDescriptor, options *toolv1.Tool) {
	l.comment(m, "the RPC "+string(m.Name()), "say what the tool does, when to use it and what it does not do")
	if options.GetRisk() == toolv1.Risk_RISK_UNSPECIFIED {
		l.add(m, ruleRisk, "%s does not say its risk and counts as destructive; set risk to RISK_READ, RISK_WRITE or RISK_DESTRUCTIVE", m.Name())
	}
	if d := l.definitions[fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())]; d != nil {
		l.definition(m, d)
	}
	for _, u := range options.GetUses() {
		if u.GetMost() == 0 {
			l.add(m, ruleUses, "%s may report any amount of %s, and one that is wrong uses up a quota; set most to what no call can exceed", m.Name(), u.GetUnit())
		}
	}
	l.message(m.Input(), true)
	l.message(m.Output(), false)
}

func (l *linter) definition(m protoreflect.MethodDescriptor, d *providerv1.ToolDefinition) {
	name := d.GetName()
	if vagueTools[name] {
		l.add(m, ruleName, "the name %q does not say what the tool works on; set name, such as %q", name, name+"_orders")
	}
	if first, ok := l.names[name]; ok {
		l.add(m, ruleTwice, "the tool %q is also %s; give one of them another name", name, first)
	}
	l.names[name] = m.FullName()
	if service := l.taken(name); service != "" {
		l.add(m, ruleTwice, "the tool %q belongs to the service %q already; give it another name, or a prefix with joining in the executor's configuration", name, service)
	}
	if n := len([]rune(d.GetDescription())); n > MaxDescription {
		l.add(m, ruleSize, "the description of %s has %d characters, and some clients cut it at %d; say less", name, n, MaxDescription)
	}
	if n := len(d.GetInputSchema()) + len(d.GetOutputSchema()); n > MaxSchema {
		l.add(m, ruleSize, "the schemas of %s have %d bytes, which every conversation carries; have fewer fields, %d bytes at most", name, n, MaxSchema)
	}
}

// message looks at the fields of a message and of those in it. in says that
// callers write it.
func (l *linter) message(m protoreflect.MessageDescriptor, in bool) {
	if l.seen[m.FullName()] || strings.HasPrefix(string(m.FullName()), "google.protobuf.") {
		return
	}
	l.seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		l.comment(f, fmt.Sprintf("the field %s of %s", f.Name(), m.Name()), "say what it is, its unit and an example")
		if in {
			if vagueFields[string(f.Name())] {
				l.add(f, ruleName, "the field name %s of %s says nothing; name what is in it", f.Name(), m.Name())
			}
			if lacks := unbounded(f); lacks != "" {
				l.add(f, ruleBound, "the field %s of %s has no bound: %s", f.Name(), m.Name(), lacks)
			}
		}
		switch inner := f.Message(); {
		case inner == nil:
			l.enum(f.Enum())
		case f.IsMap():
			l.enum(f.MapValue().Enum())
			if value := f.MapValue().Message(); value != nil {
				l.message(value, in)
			}
		default:
			l.message(inner, in)
		}
	}
}

func (l *linter) enum(e protoreflect.EnumDescriptor) {
	if e == nil || l.seen[e.FullName()] {
		return
	}
	l.seen[e.FullName()] = true
	for i := range e.Values().Len() {
		if v := e.Values().Get(i); v.Number() != 0 { // which is "not said"
			l.comment(v, "the value "+string(v.Name()), "say when it applies")
		}
	}
}

// comment demands one. An image without any has been made without source.
func (l *linter) comment(d protoreflect.Descriptor, what, advice string) {
	at := d.ParentFile().SourceLocations().ByDescriptor(d)
	if strings.TrimSpace(at.LeadingComments) == "" {
		l.add(d, ruleComment, "%s has no comment before it, which is what models read; %s", what, advice)
	}
}

// vagueTools are verbs without an object.
var vagueTools = set("action", "call", "check", "create", "delete", "do", "execute", "fetch", "find", "get", "handle", "list", "lookup",
	"manage", "process", "query", "read", "run", "search", "send", "set", "submit", "test", "tool", "update", "write")

// vagueFields could be anything.
var vagueFields = set("arg", "args", "argument", "arguments", "data", "foo", "bar", "info", "input", "inputs", "misc", "obj", "object",
	"param", "params", "payload", "stuff", "thing", "tmp", "val", "var")

func set(words ...string) map[string]bool {
	m := make(map[string]bool)
	for _, w := range words {
		m[w] = true
	}
	return m
}
