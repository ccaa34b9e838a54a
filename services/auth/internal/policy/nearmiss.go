package policy

import (
	"cmp"
	"fmt"
	"iter"
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
	candidates := make([]candidate, 0, len(some))
	for _, r := range some {
		c := candidate{rule: r, stranger: !covers(r.tree.Principal, m.subject.entity)}
		rest = c.weigh(rest, missing)
		if c.distance() > 0 { // or else it cannot be said what was missing
			candidates = append(candidates, c)
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.distance(), b.distance()) })
	for _, c := range candidates[:min(len(candidates), maxNear)] {
		near = append(near, NearMiss{c.rule, clip(c.text(), maxInput)})
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
	stranger bool  // it is for another principal
	lacks    []int // the parts that are false
	broken   int   // the part that cannot be evaluated, from 1; 0: none
	unknown  bool  // it also wants something that is not known
}

// distance is how many things are missing.
func (c *candidate) distance() int {
	n := len(c.lacks)
	if c.stranger {
		n++
	}
	if c.broken > 0 {
		n++
	}
	return n
}

// weigh reads the results for the parts of the candidate, which come first, and
// returns the rest. A part that cannot be evaluated counts only if those before
// it are true: in the policy it is not evaluated otherwise.
func (c *candidate) weigh(all results, missing Needs) results {
	for i, p := range c.rule.parts {
		switch {
		case p.needs&missing != 0:
			c.unknown = true
		case len(all.reasons) > 0 && all.reasons[0].PolicyID == p.id:
			all.reasons = all.reasons[1:]
		case len(all.errors) > 0 && all.errors[0].PolicyID == p.id:
			all.errors = all.errors[1:]
			if len(c.lacks) == 0 && c.broken == 0 {
				c.broken = i + 1
			}
		default:
			c.lacks = append(c.lacks, i)
		}
	}
	return all
}

// text says what the candidate wants that is not so.
func (c *candidate) text() string {
	var all []string
	if c.stranger {
		all = append(all, wanted(c.rule.tree.Principal))
	}
	if c.broken > 0 {
		all = append(all, "the condition "+c.rule.parts[c.broken-1].text+", which cannot be evaluated")
	}
	for _, i := range c.lacks {
		all = append(all, "the condition "+c.rule.parts[i].text)
	}
	text := strings.Join(all, " and ")
	if c.unknown {
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
