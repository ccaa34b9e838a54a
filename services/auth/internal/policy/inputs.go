package policy

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Needs is a set of things that a verdict can depend on and that are sent only
// when it does.
type Needs uint8

const (
	// NeedArguments stands for the arguments of the call.
	NeedArguments Needs = 1 << iota
	// NeedSteps stands for the number of steps that the context has taken.
	NeedSteps
	// NeedSeen stands for what the context has seen.
	NeedSeen
	// NeedSuspects stands for which arguments hold values from untrusted content; it
	// takes what the context has seen and, if that holds such values, the arguments.
	NeedSuspects
)

// attributes is a set of attributes of the context, and of the principal.
type attributes uint32

// The attributes of the context, as bits.
const (
	readsAddress attributes = 1 << iota
	readsClient
	readsProtocol
	readsHops
	readsSource
	readsTime
	readsSteps
	readsArguments
	readsTainted
	readsSeenSources
	readsSeenTrust
	readsSeenSensitivity
	readsSeenTenants
	readsSuspects

	readsAll  = 1<<iota - 1
	readsSeen = readsTainted | readsSeenSources | readsSeenTrust | readsSeenSensitivity | readsSeenTenants
)

// steps and arguments are the attributes that are not always sent. Arguments are
// the one attribute that has no type.
const (
	steps     = "steps"
	arguments = "arguments"
)

// The attributes about what the context has seen.
const (
	tainted         = "tainted"
	seenSources     = "seen_sources"
	seenTrust       = "seen_trust"
	seenSensitivity = "seen_sensitivity"
	seenTenants     = "seen_tenants"
	suspects        = "arguments_from_untrusted"
)

// attributeNamed returns the bit of an attribute, or none for a name that the
// schema does not have, with which no policy is loaded.
func attributeNamed(name string) attributes {
	switch name {
	case "address":
		return readsAddress
	case "client":
		return readsClient
	case "protocol":
		return readsProtocol
	case "hops":
		return readsHops
	case "context_source":
		return readsSource
	case "time":
		return readsTime
	case steps:
		return readsSteps
	case arguments:
		return readsArguments
	case tainted:
		return readsTainted
	case seenSources:
		return readsSeenSources
	case seenTrust:
		return readsSeenTrust
	case seenSensitivity:
		return readsSeenSensitivity
	case seenTenants:
		return readsSeenTenants
	case suspects:
		return readsSuspects
	}
	return 0
}

func (a attributes) needs() (n Needs) {
	if a&readsArguments != 0 {
		n |= NeedArguments
	}
	if a&readsSteps != 0 {
		n |= NeedSteps
	}
	if a&readsSeen != 0 {
		n |= NeedSeen
	}
	if a&readsSuspects != 0 {
		n |= NeedSuspects
	}
	return n
}

// reads tells which attributes of the context and the principal an expression reads
// or tests, and which arguments by their paths. A use of the whole context or the
// principal, which could be taken apart later, counts as all of them, and one of all
// arguments as "*".
func reads(n ast.IsNode) (all attributes, paths []string) {
	whole := 0 // uses of the principal beside comparisons of who he is
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		if path, ok := argumentPath(n); ok {
			all |= readsArguments
			if path != "" {
				paths = append(paths, path)
			}
			return false
		}
		if variable, attribute, ok := access(n); ok && variable == "context" {
			all |= attributeNamed(attribute)
			return false
		}
		if attribute, ok := personal(n); ok {
			all |= personNamed(attribute)
			return false
		}
		for _, operand := range compared(n) {
			if isPerson(operand) {
				whole--
			}
		}
		if isPerson(n) {
			whole++
		}
		if v, ok := n.(ast.NodeTypeVariable); ok && v.Name == "context" {
			all |= readsAll
			paths = append(paths, "*")
		}
		return true
	})
	if whole > 0 {
		all |= readsPerson
	}
	return all, sorted(paths)
}

// argumentPath returns "a.b" for context.arguments.a.b, "*" for all arguments at
// once, and nothing for the question whether there are any.
func argumentPath(n ast.IsNode) (path string, ok bool) {
	var names []string
	for {
		variable, attribute, ok := access(n)
		if ok && variable == "context" {
			if attribute != arguments {
				return "", false
			}
			if len(names) == 0 {
				if _, test := n.(ast.NodeTypeHas); test {
					return "", true
				}
				return "*", true
			}
			slices.Reverse(names)
			return strings.Join(names, "."), true
		}
		switch node := n.(type) {
		case ast.NodeTypeAccess:
			names, n = append(names, string(node.Value)), node.Arg
		case ast.NodeTypeHas:
			names, n = append(names, string(node.Value)), node.Arg
		default:
			return "", false
		}
	}
}

// Inputs returns what the policies that [Match.Decide] has looked at read of the
// situation and of the principal beyond his actor on record, as text: of arguments
// only their names, and a value has at most 256 bytes. Scopes that have no room end
// with [Cut]. What policies that wait for more read, as far as it is known, is there
// too if these are given. It is nil where all of them read nothing.
func (m *Match) Inputs(situation Situation, waiting []*Rule) map[string]string {
	missing := situation.missing()
	var read attributes
	var names []string
	for _, r := range m.all {
		if r.needs&missing == 0 || slices.Contains(waiting, r) {
			read |= r.reads | r.person
			names = append(names, r.arguments...)
		}
	}
	if read == 0 {
		return nil
	}
	o := situation.Origin
	in := make(map[string]string, 4)
	add := func(a attributes, name, value string) {
		if read&a != 0 {
			in[name] = clip(value, maxInput)
		}
	}
	add(readsAddress, "address", o.GetAddress())
	add(readsClient, "client", o.GetClient())
	add(readsProtocol, "protocol", o.GetProtocolVersion())
	add(readsHops, "hops", strconv.FormatUint(uint64(o.GetHops()), 10))
	add(readsSource, "context_source", string(sourceName(o.GetContextSource())))
	if read&readsTime != 0 {
		in["time"] = situation.Time.UTC().Format(time.RFC3339)
	}
	if missing&NeedSteps == 0 {
		add(readsSteps, steps, strconv.FormatUint(o.GetSteps(), 10))
	}
	add(readsArguments, arguments, strings.Join(sorted(names), ", "))
	situation.Seen.inputs(read, in)
	add(readsOwner, person+"owner", m.subject.text("owner"))
	add(readsName, person+"name", m.subject.text("name"))
	if read&readsScopes != 0 {
		in[person+"scopes"] = m.subject.scopes()
	}
	return in
}

// maxInput is what the record has room for, and so for the text of what is
// missing.
const maxInput = 256

// clip cuts a text to at most n bytes, between characters.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
