package policy

import (
	"fmt"
	"iter"
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
	id       cedar.PolicyID // no other part of the set has it
	text     string         // what must be true
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
			r.parts = append(r.parts, part{
				id:       cedar.PolicyID(fmt.Sprintf("%s/%d", r.ID, len(r.parts))),
				text:     written(compiled),
				compiled: compiled,
				needs:    read.needs(),
			})
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
	missing := situation.missing()
	some := make(rules, 0, len(s.rules))
	var read attributes
	for _, r := range s.rules {
		if r.permits && covers(r.tree.Action, m.action.entity) && covers(r.tree.Resource, m.object.entity) {
			some = append(some, r)
			read |= r.reads
		}
	}
	_, diagnostic := cedar.Authorize(parts{some, missing}, entities{m}, m.request(situation.record(read)))
	rest := results{diagnostic.Reasons, diagnostic.Errors}
	candidates, farthest := make([]candidate, len(some)), 0
	for i, r := range some {
		c := &candidates[i]
		c.rule = r
		if !covers(r.tree.Principal, m.subject.entity) {
			c.stranger, c.distance = true, 1
		}
		rest = c.weigh(rest, missing)
		farthest = max(farthest, c.distance)
	}
	for d := 1; d <= farthest; d++ { // those at 0 cannot tell what was missing
		for i := range candidates {
			if c := &candidates[i]; c.distance == d && len(near) < maxNear {
				near = append(near, NearMiss{c.rule, clip(c.text(missing), maxInput)})
			}
		}
	}
	return near
}

// parts lets Cedar evaluate each part of each policy at once, but for those that
// read what is missing.
type parts struct {
	rules   rules
	missing Needs
}

// All implements [cedar.PolicyIterator].
func (ps parts) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, r := range ps.rules {
			for _, p := range r.parts {
				if p.needs&ps.missing == 0 && !yield(p.id, p.compiled) {
					return
				}
			}
		}
	}
}

// results are what Cedar says of parts, in the order of the parts: which are true,
// and which cannot be evaluated.
type results struct {
	reasons []cedar.DiagnosticReason
	errors  []cedar.DiagnosticError
}

// candidate is a permit that could be a near miss.
type candidate struct {
	rule     *Rule
	stranger bool    // it is for another principal
	is       results // of its parts
	distance int     // how many things are missing
}

// weigh takes the results of the candidate's parts, which come first, and returns
// the rest.
func (c *candidate) weigh(all results, missing Needs) (rest results) {
	c.is, rest = all, all
	for _, p := range c.rule.parts {
		var state partState
		state, rest = rest.next(p, missing)
		if state == partFalse || state == partBroken && c.firm() {
			c.distance++
		}
	}
	return rest
}

// firm reports whether nothing but the principal was missing so far. In the policy
// a part is not evaluated where one before it is false, so that it cannot be is
// no news then.
func (c *candidate) firm() bool { return c.distance == 0 || c.distance == 1 && c.stranger }

// partState is what is known of a part.
type partState int

const (
	partFalse partState = iota
	partTrue
	partBroken  // it cannot be evaluated
	partUnknown // it reads what is missing
)

// next returns what is known of a part, and the results of those after it.
func (rs results) next(p part, missing Needs) (partState, results) {
	switch {
	case p.needs&missing != 0:
		return partUnknown, rs
	case len(rs.reasons) > 0 && rs.reasons[0].PolicyID == p.id:
		return partTrue, results{rs.reasons[1:], rs.errors}
	case len(rs.errors) > 0 && rs.errors[0].PolicyID == p.id:
		return partBroken, results{rs.reasons, rs.errors[1:]}
	}
	return partFalse, rs
}

// text says what the candidate wants that is not so.
func (c *candidate) text(missing Needs) string {
	var all []string
	if c.stranger {
		all = append(all, wanted(c.rule.tree.Principal))
	}
	firm, unknown, rest := true, false, c.is
	for _, p := range c.rule.parts {
		var state partState
		state, rest = rest.next(p, missing)
		switch {
		case state == partFalse:
			all, firm = append(all, "the condition "+p.text), false
		case state == partBroken && firm:
			all, firm = append(all, "the condition "+p.text+", which cannot be evaluated"), false
		case state == partUnknown:
			unknown = true
		}
	}
	text := strings.Join(all, " and ")
	if unknown {
		text += " (its conditions on what was not sent were not looked at)"
	}
	return text
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
