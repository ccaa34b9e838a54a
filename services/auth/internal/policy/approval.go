package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Approval is who can lift a forbid for one call, by its @approval. The larger is
// the stricter.
type Approval int

const (
	// ApprovalNone is of policies that nobody can lift.
	ApprovalNone Approval = iota
	// ApprovalUser means the caller's own user, or an operator.
	ApprovalUser
	// ApprovalOperator means operators alone.
	ApprovalOperator
)

// approval is the name of the annotation.
const approval = "approval"

// approvalOf reads the annotation. One that cannot be read lifts nothing.
func approvalOf(notes cedar.Annotations) Approval {
	switch notes[approval] {
	case "user":
		return ApprovalUser
	case "operator":
		return ApprovalOperator
	}
	return ApprovalNone
}

// approvalProblems returns what is wrong with an @approval.
func (r *Rule) approvalProblems() (ps []Problem) {
	value, noted := r.compiled.Annotations()[approval]
	if !noted {
		return nil
	}
	if r.Approval == ApprovalNone {
		ps = append(ps, r.problem("@approval(%q) is neither \"user\" (the caller's own user or an operator) nor \"operator\"", string(value)))
	}
	if r.permits {
		ps = append(ps, r.problem("@approval on a permit; write a forbid with it, which forbids until somebody has approved the call"))
	}
	if !onlyCalls(r.tree.Action) {
		ps = append(ps, r.problem("@approval where more than calls is forbidden, and only those can be approved; write action == Action::\"tools/call\""))
	}
	return ps
}

// onlyCalls reports whether a scope is of calls of tools and nothing else.
func onlyCalls(scope ast.IsScopeNode) bool {
	calls := NewAction("tools/call").entity.UID
	switch scope := scope.(type) {
	case ast.ScopeTypeEq:
		return scope.Entity == calls
	case ast.ScopeTypeInSet:
		return len(scope.Entities) > 0 && !slices.ContainsFunc(scope.Entities, func(uid cedar.EntityUID) bool { return uid != calls })
	}
	return false
}

// liftable is the part of a match that knows of policies with an @approval: what
// is decided without them, and with one of them alone.
type liftable struct {
	plain *Match
	each  []*Match
	rules rules // of each
}

// newLiftable returns nil where no policy of m has an @approval.
func newLiftable(m *Match) *liftable {
	if !slices.ContainsFunc(m.all, func(r *Rule) bool { return r.Approval != ApprovalNone }) {
		return nil
	}
	var plain, asking rules
	for _, r := range m.all {
		if r.Approval == ApprovalNone {
			plain = append(plain, r)
		} else {
			asking = append(asking, r)
		}
	}
	among := func(some rules) *Match {
		part := &Match{subject: m.subject, action: m.action}
		part.turn(m.object, some)
		return part
	}
	l := &liftable{plain: among(plain), rules: asking}
	for _, r := range asking {
		l.each = append(l.each, among(append(slices.Clone(plain), r)))
	}
	return l
}

// decide decides where some policies can be lifted. Nobody is asked about what
// would be denied anyway: only where the others allow do these matter. One that
// cannot be evaluated forbids for good (fails closed).
func (l *liftable) decide(situation Situation) Outcome {
	out := l.plain.Decide(situation)
	if out.Verdict != Allow {
		return out
	}
	for i, m := range l.each {
		one := m.Decide(situation)
		switch {
		case one.Verdict == Allow: // it does not apply
		case one.Verdict != Deny || one.Broken: // or more has to be known first
			return one
		case out.Verdict == Allow || l.rules[i].Approval > out.Rule.Approval:
			out = Outcome{Verdict: NeedApproval, Rule: l.rules[i]}
		}
	}
	return out
}
