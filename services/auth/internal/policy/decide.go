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
	// Incomplete says that the verdict depends on something that is not known.
	Incomplete
	// NeedApproval is the verdict where all that forbids are policies that
	// somebody can lift, by their @approval.
	NeedApproval
)

// Outcome is a verdict and where it comes from.
type Outcome struct {
	Verdict Verdict
	// Rule is the first policy, as written, that led to the verdict; nil where
	// none permitted, and with Incomplete. With NeedApproval it is the strictest.
	Rule *Rule
	// Broken says that Rule is a forbid that could not be evaluated, and so
	// forbids.
	Broken bool
	// Needs is what to ask again with, for Incomplete.
	Needs Needs
}

// Match is the part of a set that can matter to one subject, action and
// object, whatever the situation. It never changes, but within a [Sweep]; to keep
// it saves most of the work of the next decision.
type Match struct {
	subject *Subject
	action  Action
	object  *Object

	all     rules
	reads   attributes // of all rules; none: the outcome is always the same
	outcome Outcome

	lifts *liftable // nil where no rule has an @approval
}

// Match finds the policies whose scope covers the request.
func (s *Set) Match(subject *Subject, action Action, object *Object) *Match {
	return s.View(subject, action).Match(object)
}

// View is the part of a set that can matter to one subject and action. It never
// changes; to keep it saves work where there are many objects.
type View struct {
	subject *Subject
	action  Action
	rules   rules
}

// View finds the policies whose scope covers the subject and the action.
func (s *Set) View(subject *Subject, action Action) *View {
	v := &View{subject: subject, action: action}
	for _, r := range s.rules {
		if covers(r.tree.Principal, subject.entity) && covers(r.tree.Action, action.entity) {
			v.rules = append(v.rules, r)
		}
	}
	return v
}

// Match finds the policies whose scope covers the object too.
func (v *View) Match(object *Object) *Match {
	m := &Match{subject: v.subject, action: v.action}
	m.turn(object, v.rules)
	m.prune()
	m.lifts = newLiftable(m)
	return m
}

// prune drops the policies that read what is not always sent, and cannot apply to the
// object whatever that is: a condition that depends on action and object alone is
// false, and only such ones that are true come before it. So what is costly to know is
// asked for only where it matters.
func (m *Match) prune() {
	var leading parts
	for _, r := range m.all {
		if r.needs != 0 {
			leading = append(leading, r.leading()...)
		}
	}
	if len(leading) == 0 {
		return
	}
	rest := leading.evaluate(m, cedar.Record{})
	var kept rules
	m.reads = 0
	for _, r := range m.all {
		keep := true
		if r.needs != 0 {
			settled := true // all parts so far are true
			for _, p := range r.leading() {
				var state partState
				state, rest = rest.next(p)
				keep = keep && !(settled && state == partFalse)
				settled = settled && state == partTrue
			}
		}
		if keep {
			kept = append(kept, r)
			m.reads |= r.reads
		}
	}
	if m.all = kept; m.reads == 0 {
		m.outcome = m.evaluate(cedar.Record{}, 0)
	}
}

// turn makes m the match of another object, by the rules whose scope covers its
// subject and action.
func (m *Match) turn(object *Object, among rules) {
	m.object, m.reads, m.all = object, 0, m.all[:0]
	if object.entity.UID.Type == typeResource && Climbs(string(object.entity.UID.ID)) {
		m.outcome = Outcome{Verdict: Deny, Rule: climbing}
		return
	}
	for _, r := range among {
		if covers(r.tree.Resource, object.entity) {
			m.all = append(m.all, r)
			m.reads |= r.reads
		}
	}
	if m.reads == 0 {
		m.outcome = m.evaluate(cedar.Record{}, 0)
	}
}

// Decide decides. The situation may lack arguments and steps; the verdict is
// Incomplete only if a policy that reads them could turn it.
func (m *Match) Decide(situation Situation) Outcome {
	if m.lifts != nil {
		return m.lifts.decide(situation)
	}
	if m.reads == 0 {
		return m.outcome
	}
	missing := situation.missing()
	known, permits, forbids := m.weigh(situation.record(m.reads), missing)
	switch {
	case known.Verdict == Deny && known.Rule != nil: // forbidden, whatever is missing
	case known.Verdict == Allow && forbids == 0:
	case known.Verdict == Deny && permits == 0:
	case known.Verdict == Allow:
		return Outcome{Verdict: Incomplete, Needs: forbids & missing}
	default:
		return Outcome{Verdict: Incomplete, Needs: (permits | forbids) & missing}
	}
	return known
}

// weigh evaluates the rules that do not read what is missing, and tells what
// the other permits and forbids read.
func (m *Match) weigh(context cedar.Record, missing Needs) (known Outcome, permits, forbids Needs) {
	for _, r := range m.all {
		switch {
		case r.needs&missing == 0:
		case r.permits:
			permits |= r.needs
		default:
			forbids |= r.needs
		}
	}
	return m.evaluate(context, missing), permits, forbids
}

// Callable reports whether there may be arguments with which the verdict is
// Allow. It errs on the side of yes. Of many objects a [Roster] tells the same.
func (m *Match) Callable(situation Situation) bool {
	if m.lifts != nil { // what can be approved can be called
		return m.lifts.plain.Callable(situation)
	}
	situation.Arguments = nil
	return m.callable(situation.record(m.reads), situation.missing())
}

// callable is Callable in a context in which something is missing.
func (m *Match) callable(context cedar.Record, missing Needs) bool {
	if m.reads == 0 {
		return m.outcome.Verdict == Allow
	}
	known, permits, _ := m.weigh(context, missing)
	return known.Verdict == Allow || known.Rule == nil && permits != 0
}

// evaluate evaluates all rules that do not read what is missing.
func (m *Match) evaluate(context cedar.Record, missing Needs) Outcome {
	some := m.all
	if slices.ContainsFunc(some, func(r *Rule) bool { return r.needs&missing != 0 }) {
		some = slices.DeleteFunc(slices.Clone(some), func(r *Rule) bool { return r.needs&missing != 0 })
	}
	return m.authorize(some, context)
}

// authorize is Cedar's authorization but for one thing: a forbid that cannot be
// evaluated forbids (fails closed). A permit that cannot be does not permit.
func (m *Match) authorize(some rules, context cedar.Record) Outcome {
	verdict, diagnostic := cedar.Authorize(some, entities{m}, m.request(context))
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

func (m *Match) request(context cedar.Record) cedar.Request {
	return cedar.Request{
		Principal: m.subject.entity.UID,
		Action:    m.action.entity.UID,
		Resource:  m.object.entity.UID,
		Context:   context,
	}
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
