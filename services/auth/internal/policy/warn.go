package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
)

// warnings returns what is allowed and hardly meant. Only what is certain is
// here: a warning that is sometimes wrong is soon not read.
func (r *Rule) warnings() (ps []Problem) {
	warn := func(text string) {
		p := r.problem("policy %q %s", r.ID, text)
		p.Warning = true
		ps = append(ps, p)
	}
	if _, keep := eval.PartialPolicy(unknown(), r.tree); !keep {
		warn("can never apply: its conditions are false whatever is asked")
		return ps
	}
	if !r.permits && r.everything() {
		warn("forbids everything to everybody, so no permit has an effect")
	}
	return ps
}

// everything reports whether a policy applies to every request.
func (r *Rule) everything() bool {
	for _, scope := range []ast.IsScopeNode{r.tree.Principal, r.tree.Action, r.tree.Resource} {
		if _, all := scope.(ast.ScopeTypeAll); !all {
			return false
		}
	}
	return len(r.tree.Conditions) == 0
}

// unknown is a request of which nothing is known.
func unknown() eval.Env {
	return eval.Env{
		Entities:  types.EntityMap{},
		Principal: eval.Variable("principal"),
		Action:    eval.Variable("action"),
		Resource:  eval.Variable("resource"),
		Context:   eval.Variable("context"),
	}
}

// UnknownTools returns a warning for each policy that is about one tool which
// does not exist.
func (s *Set) UnknownTools(exists func(name string) bool) (ps []Problem) {
	for _, r := range s.rules {
		var uid cedar.EntityUID
		switch scope := r.tree.Resource.(type) {
		case ast.ScopeTypeEq:
			uid = scope.Entity
		case ast.ScopeTypeIn:
			uid = scope.Entity
		}
		if uid.Type == typeTool && !exists(string(uid.ID)) {
			p := r.problem("policy %q is about the tool %q, and no tool is called so now", r.ID, uid.ID)
			p.Warning = true
			ps = append(ps, p)
		}
	}
	return ps
}

// Signature is a tool and the arguments that it takes.
type Signature struct {
	Tool *Object
	// Arguments are all that the tool's schema names, if Known; otherwise it may take
	// others.
	Arguments []string
	Known     bool
}

// UnknownArguments returns a warning for each argument that a policy reads and none
// of the tools takes that the policy is about. A policy is passed over that is about
// no tool, or about one whose arguments are not known.
func (s *Set) UnknownArguments(tools []Signature) (ps []Problem) {
	call := NewAction("tools/call").entity
	for _, r := range s.rules {
		if r.needs&NeedArguments == 0 || !covers(r.tree.Action, call) {
			continue
		}
		taken, count, known := make(map[string]bool), 0, true
		for _, t := range tools {
			if covers(r.tree.Resource, t.Tool.entity) {
				count++
				known = known && t.Known
				for _, name := range t.Arguments {
					taken[name] = true
				}
			}
		}
		if count == 0 || !known {
			continue
		}
		for _, name := range r.untaken(taken) {
			p := r.problem("policy %q reads the argument %q, and %s", r.ID, name, instead(count, taken))
			p.Warning = true
			ps = append(ps, p)
		}
	}
	return ps
}

// untaken returns the arguments, without what is in them, that a policy reads and that
// are not taken. A path does not tell where a name with a dot ends, so whatever it
// could begin with counts.
func (r *Rule) untaken(taken map[string]bool) (names []string) {
	for _, path := range r.arguments {
		is := path == "*" || taken[path]
		for i := range path {
			is = is || path[i] == '.' && taken[path[:i]]
		}
		if !is {
			name, _, _ := strings.Cut(path, ".")
			names = append(names, name)
		}
	}
	return sorted(names)
}

// instead says what tools take instead of something that none of them does.
func instead(count int, taken map[string]bool) string {
	const most = 12 // names that still fit on a line
	text := "the tool that it is about takes no such argument"
	if count > 1 {
		text = fmt.Sprintf("none of the %d tools that it is about takes it", count)
	}
	if len(taken) > 0 && len(taken) <= most {
		text += "; known are: " + strings.Join(slices.Sorted(maps.Keys(taken)), ", ")
	}
	return text
}
