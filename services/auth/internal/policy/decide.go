package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Verdict is what a set says of a request.
type Verdict int

const (
	// Deny is the verdict where no policy permits, or one forbids.
	Deny Verdict = iota
	// Allow is the verdict where a policy permits and none forbids.
	Allow
	// NeedArguments says that the verdict depends on arguments that are not
	// known.
	NeedArguments
	// NeedApproval is the verdict where all that forbids are policies that
	// somebody can lift, by their @approval.
	NeedApproval
)

// Outcome is a verdict and where it comes from.
type Outcome struct {
	Verdict Verdict
	// Rule is the first policy, as written, that led to the verdict; nil where
	// none permitted, and with NeedArguments. With NeedApproval it is the strictest.
	Rule *Rule
	// Broken says that Rule is a forbid that could not be evaluated, and so
	// forbids.
	Broken bool
}

// Match is the part of a set that can matter to one subject, action and
// object, whatever the situation. It never changes, but within a [Sweep]; to keep
// it saves most of the work of the next decision.
type Match struct {
	subject *Subject
	action  Action
	object  *Object

	all      rules
	silent   rules // those that do not read arguments
	reading  rules // those that do
	constant bool  // no rule reads the context
	outcome  Outcome

	lifts *liftable // nil where no rule has an @approval
}

// Match finds the policies whose scope covers the request.
func (s *Set) Match(subject *Subject, action Action, object *Object) *Match {
	m := &Match{subject: subject, action: action}
	m.turn(object, s.rules)
	m.lifts = newLiftable(m)
	return m
}

// turn makes m the match of another object, by the rules that can matter to it.
func (m *Match) turn(object *Object, among rules) {
	m.object, m.constant = object, true
	m.all, m.silent, m.reading = m.all[:0], m.silent[:0], m.reading[:0]
	if object.entity.UID.Type == typeResource && Climbs(string(object.entity.UID.ID)) {
		m.outcome = Outcome{Verdict: Deny, Rule: climbing}
		return
	}
	for _, r := range among {
		if !covers(r.tree.Principal, m.subject.entity) || !covers(r.tree.Action, m.action.entity) || !covers(r.tree.Resource, object.entity) {
			continue
		}
		m.all = append(m.all, r)
		if r.readsArguments {
			m.reading = append(m.reading, r)
		} else {
			m.silent = append(m.silent, r)
		}
		m.constant = m.constant && !r.readsContext
	}
	if m.constant {
		m.outcome = m.evaluate(m.all, cedar.Record{})
	}
}

// Decide decides. The situation may lack arguments; the verdict is
// NeedArguments only if a policy that reads them could turn it.
func (m *Match) Decide(situation Situation) Outcome {
	if m.lifts != nil {
		return m.lifts.decide(situation)
	}
	if m.constant {
		return m.outcome
	}
	return m.decide(situation.record(), situation.Arguments != nil)
}

func (m *Match) decide(context cedar.Record, complete bool) Outcome {
	if complete || len(m.reading) == 0 {
		return m.evaluate(m.all, context)
	}
	known := m.evaluate(m.silent, context)
	switch {
	case known.Verdict == Deny && known.Rule != nil: // forbidden, whatever they are
	case known.Verdict == Allow && !m.reading.anyForbids():
	case known.Verdict == Deny && !m.reading.anyPermits():
	default:
		return Outcome{Verdict: NeedArguments}
	}
	return known
}

// Callable reports whether there may be arguments with which the verdict is
// Allow. It errs on the side of yes.
func (m *Match) Callable(situation Situation) bool {
	if m.lifts != nil { // what can be approved can be called
		return m.lifts.plain.Callable(situation)
	}
	if m.constant {
		return m.outcome.Verdict == Allow
	}
	situation.Arguments = nil
	return m.callable(situation.record())
}

// callable is Callable in a context without arguments.
func (m *Match) callable(context cedar.Record) bool {
	if m.constant {
		return m.outcome.Verdict == Allow
	}
	switch known := m.decide(context, false); known.Verdict {
	case Allow:
		return true
	case NeedArguments:
		return m.reading.anyPermits() || m.evaluate(m.silent, context).Verdict == Allow
	}
	return false
}

// evaluate is Cedar's authorization but for one thing: a forbid that cannot be
// evaluated forbids (fails closed). A permit that cannot be does not permit.
func (m *Match) evaluate(some rules, context cedar.Record) Outcome {
	verdict, diagnostic := cedar.Authorize(some, entities{m}, cedar.Request{
		Principal: m.subject.entity.UID,
		Action:    m.action.entity.UID,
		Resource:  m.object.entity.UID,
		Context:   context,
	})
	forbidden := verdict == cedar.Deny && len(diagnostic.Reasons) > 0
	if !forbidden {
		for _, e := range diagnostic.Errors {
			if r := some.find(e.PolicyID); r == nil || !r.permits {
				return Outcome{Verdict: Deny, Rule: r, Broken: true}
			}
		}
	}
	out := Outcome{Verdict: Deny}
	if verdict == cedar.Allow {
		out.Verdict = Allow
	}
	if len(diagnostic.Reasons) > 0 {
		out.Rule = some.find(diagnostic.Reasons[0].PolicyID)
	}
	return out
}

// entities are the three that a request is about. Roles, services and the
// group of actions have no attributes and no parents; Cedar needs no more of
// them than their names.
type entities struct{ *Match }

// Get implements the entity getter of Cedar.
func (e entities) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	switch uid {
	case e.subject.entity.UID:
		return e.subject.entity, true
	case e.object.entity.UID:
		return e.object.entity, true
	case e.action.entity.UID:
		return e.action.entity, true
	}
	return cedar.Entity{}, false
}

// covers reports whether a scope can match an entity. It is an index and no
// more: the policy is evaluated with its scope all the same, so what it lets
// through too much does no harm, and what it does not know it lets through.
func covers(scope ast.IsScopeNode, e cedar.Entity) bool {
	within := func(uid cedar.EntityUID) bool { return e.UID == uid || e.Parents.Contains(uid) }
	switch scope := scope.(type) {
	case ast.ScopeTypeEq:
		return e.UID == scope.Entity
	case ast.ScopeTypeIn:
		return within(scope.Entity)
	case ast.ScopeTypeInSet:
		return slices.ContainsFunc(scope.Entities, within)
	case ast.ScopeTypeIs:
		return e.UID.Type == scope.Type
	case ast.ScopeTypeIsIn:
		return e.UID.Type == scope.Type && within(scope.Entity)
	}
	return true
}

// concerns reports whether a scope can match an entity of a type; like covers,
// it is an index and lets through what it does not know.
func concerns(scope ast.IsScopeNode, kind cedar.EntityType) bool {
	switch scope := scope.(type) {
	case ast.ScopeTypeEq:
		return scope.Entity.Type == kind
	case ast.ScopeTypeIs:
		return scope.Type == kind
	case ast.ScopeTypeIsIn:
		return scope.Type == kind
	}
	return true
}
