package policy

import (
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
