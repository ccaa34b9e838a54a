package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	policyast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// maxNear is how many near misses are told.
const maxNear = 8

// NearMiss is a permit that would have permitted but for something, or a forbid that
// would not have forbidden.
type NearMiss struct {
	Rule *Rule
	// Missing says what, "the role analyst".
	Missing string
}

// part is one of the conditions that must all be true for a policy to apply.
type part struct {
	id       cedar.PolicyID // no other part of the set has it
	text     string         // what must be true
	compiled *cedar.Policy
	needs    Needs
	fixed    bool // it depends on the action and the object alone
	object   bool // it depends on the object, among others
	unless   bool // it is what an unless must not be
}

// split finds the parts of a policy's conditions. A part that is evaluated alone
// says more than the whole.
func (r *Rule) split() {
	for _, condition := range r.tree.Conditions {
		for _, body := range conjuncts(condition.Body, condition.Condition == ast.ConditionWhen, nil) {
			p := &ast.Policy{
				Effect: ast.EffectPermit, Principal: ast.ScopeTypeAll{}, Action: ast.ScopeTypeAll{}, Resource: ast.ScopeTypeAll{},
				Conditions: []ast.ConditionType{{Condition: condition.Condition, Body: body}},
			}
			compiled := cedar.NewPolicyFromAST((*policyast.Policy)(p))
			read, _ := reads(body)
			r.parts = append(r.parts, part{
				id:       cedar.PolicyID(fmt.Sprintf("%s/%d", r.ID, len(r.parts))),
				text:     written(compiled),
				compiled: compiled,
				needs:    read.needs(),
				fixed:    fixed(body),
				object:   looksAtObject(body),
				unless:   condition.Condition == ast.ConditionUnless,
			})
		}
	}
}

// leading returns the first parts, as long as they depend on action and object alone.
func (r *Rule) leading() (some parts) {
	for i := range r.parts {
		if !r.parts[i].fixed {
			break
		}
		some = append(some, &r.parts[i])
	}
	return some
}

// conjuncts takes a && b apart, or, of what must be false, a || b.
func conjuncts(n ast.IsNode, and bool, all []ast.IsNode) []ast.IsNode {
	switch n := n.(type) {
	case ast.NodeTypeAnd:
		if and {
			return conjuncts(n.Right, and, conjuncts(n.Left, and, all))
		}
	case ast.NodeTypeOr:
		if !and {
			return conjuncts(n.Right, and, conjuncts(n.Left, and, all))
		}
	}
	return append(all, n)
}

// written returns the condition of a policy that has one as Cedar writes it.
func written(p *cedar.Policy) string {
	text := strings.TrimSuffix(strings.TrimSpace(string(p.MarshalCedar())), " };")
	if _, body, ok := strings.Cut(text, "\nwhen { "); ok {
		return body
	}
	_, body, _ := strings.Cut(text, "\nunless { ")
	return "not (" + body + ")"
}

// lift says what one thing would keep a forbid that applies from applying.
func (r *Rule) lift() string {
	var all []string
	for _, p := range r.parts {
		if body, ok := strings.CutPrefix(p.text, "not ("); ok && p.unless {
			all = append(all, "the condition "+strings.TrimSuffix(body, ")"))
		} else {
			all = append(all, "the condition not ("+p.text+")")
		}
	}
	if r.Approval != ApprovalNone {
		all = append(all, "an approval")
	}
	return strings.Join(all, " or ")
}

// Applied returns the policies of the match that permit or forbid in a situation,
// as written. One that cannot be evaluated counts if it is a forbid.
func (m *Match) Applied(situation Situation) (applied []*Rule) {
	missing, context := situation.missing(), situation.record(m.reads)
	for _, r := range m.all {
		if r.needs&missing == 0 && m.authorize(rules{r}, context).Rule != nil {
			applied = append(applied, r)
		}
	}
	return applied
}

// NearMisses returns what was nearest to another verdict, at most eight. Where none
// permitted they are the candidates that lack a role or whose conditions are false,
// nearest first; candidates are asked for only then. Where a policy forbids they are
// the forbids, with what would have lifted each, and then the permits that these
// have overruled.
func (m *Match) NearMisses(candidates func() *Candidates, situation Situation, out Outcome) []NearMiss {
	switch {
	case out.Verdict != Deny || out.Rule == climbing:
		return nil
	case out.Rule == nil:
		return candidates().near(m, situation)
	}
	return overruled(m.Applied(situation), out)
}

// overruled tells what would have lifted the forbids among the policies that apply,
// and which permits they have overruled.
func overruled(applied []*Rule, out Outcome) (near []NearMiss) {
	forbids := slices.DeleteFunc(slices.Clone(applied), func(r *Rule) bool { return r.permits })
	but := ""
	switch {
	case len(forbids) > 1:
		but = " (and the other forbids lifted too)"
	case len(forbids) == len(applied):
		but = " (and a policy that permits it)"
	case out.Broken:
		but = " (the forbid cannot be evaluated)"
	}
	for _, r := range forbids {
		if text := r.lift(); text != "" && len(near) < maxNear/2 {
			near = append(near, NearMiss{r, clip(text, maxInput-len(but)) + but})
		}
	}
	for _, r := range applied {
		if r.permits && len(near) < maxNear {
			near = append(near, NearMiss{r, clip("an exception from the forbid "+out.Rule.ID, maxInput)})
		}
	}
	return near
}

// wanted tells whom a scope is for.
func wanted(scope ast.IsScopeNode) string {
	one := func(uid cedar.EntityUID) string {
		if uid.Type == typeRole {
			return "the role " + string(uid.ID)
		}
		return "being " + string(uid.ID)
	}
	switch scope := scope.(type) {
	case ast.ScopeTypeEq:
		return one(scope.Entity)
	case ast.ScopeTypeIn:
		return one(scope.Entity)
	case ast.ScopeTypeIsIn:
		return one(scope.Entity)
	}
	return "being another principal"
}
