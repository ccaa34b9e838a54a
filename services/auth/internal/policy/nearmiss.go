package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	policyast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// maxNear is how many near misses are told.
const maxNear = 8

// NearMiss is a permit that would have permitted but for something.
type NearMiss struct {
	Rule *Rule
	// Missing says what, "the role analyst".
	Missing string
}

// part is one of the conditions that must all be true for a policy to apply.
type part struct {
	text     string // what must be true
	compiled *cedar.Policy
	needs    Needs
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
			r.parts = append(r.parts, part{text: written(compiled), compiled: compiled, needs: read.needs()})
		}
	}
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

// NearMisses returns the permits that were nearest to permit, at most eight,
// nearest first: where none permitted, those that lack a role or whose conditions
// are false; where a policy forbids, those that it has overruled.
func (s *Set) NearMisses(m *Match, situation Situation, out Outcome) (near []NearMiss) {
	if out.Verdict != Deny || out.Rule == climbing {
		return nil
	}
	if out.Rule != nil {
		for _, r := range m.Applied(situation) {
			if r.permits && len(near) < maxNear {
				near = append(near, NearMiss{r, clip("an exception from the forbid "+out.Rule.ID, maxInput)})
			}
		}
		return near
	}
	type candidate struct {
		NearMiss
		distance int
	}
	var candidates []candidate
	missing, context := situation.missing(), situation.record(readsAll)
	for _, r := range s.rules {
		if !r.permits || !covers(r.tree.Action, m.action.entity) || !covers(r.tree.Resource, m.object.entity) {
			continue
		}
		lacks, unknown := m.lacks(r, context, missing)
		if len(lacks) == 0 {
			continue // it cannot be said what was missing
		}
		text := strings.Join(lacks, " and ")
		if unknown {
			text += " (its conditions on what was not sent were not looked at)"
		}
		candidates = append(candidates, candidate{NearMiss{r, clip(text, maxInput)}, len(lacks)})
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	for _, c := range candidates[:min(len(candidates), maxNear)] {
		near = append(near, c.NearMiss)
	}
	return near
}

// lacks tells what a permit wants that is not so, and whether it also wants
// something that is not known.
func (m *Match) lacks(r *Rule, context cedar.Record, missing Needs) (lacks []string, unknown bool) {
	if !covers(r.tree.Principal, m.subject.entity) {
		lacks = append(lacks, wanted(r.tree.Principal))
	}
	guarded := false // a condition before is false, perhaps so that this one is not evaluated
	for _, p := range r.parts {
		if p.needs&missing != 0 {
			unknown = true
			continue
		}
		verdict, diagnostic := cedar.Authorize(alone{p.compiled}, entities{m}, m.request(context))
		switch {
		case verdict == cedar.Allow:
		case len(diagnostic.Errors) == 0:
			lacks, guarded = append(lacks, "the condition "+p.text), true
		case !guarded:
			lacks, guarded = append(lacks, "the condition "+p.text+", which cannot be evaluated"), true
		}
	}
	return lacks, unknown
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
