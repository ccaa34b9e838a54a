package policy

import (
	"encoding/binary"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Roster is a list of objects, sorted by what the policies of a [View] can say of
// them: those of one group have one verdict, whatever the situation and whoever has
// the view. What depends on the action and the object alone is evaluated when it is
// made. It never changes.
type Roster struct {
	action  Action
	clauses []clause
	groups  []group
	of      []uint32   // the group of each object
	reads   attributes // of the context, of all clauses
}

// clause is a policy as it is for some objects, of which it says the same.
type clause struct {
	rule   rules   // one
	object *Object // one of them
}

// group is what has to be looked at for some objects. One that nothing permits is
// denied.
type group struct {
	permits, forbids []uint32 // clauses
	permitted        bool     // whatever the situation
}

// Key names the policies of the view within its set. Views with one key have the
// same roster.
func (v *View) Key() string {
	key := make([]byte, 0, 2*len(v.rules))
	for _, r := range v.rules {
		key = binary.AppendUvarint(key, uint64(r.position))
	}
	return string(key)
}

// Roster sorts objects, whose positions in the list stand for them.
func (v *View) Roster(objects []*Object) *Roster {
	s := sorter{
		Roster:  &Roster{action: v.action, of: make([]uint32, 0, len(objects))},
		clauses: make(map[string]uint32), groups: make(map[string]uint32),
	}
	for i, o := range objects {
		s.of = append(s.of, s.place(v.rules, i, o))
	}
	return s.Roster
}

// sorter makes a roster. Its maps are by what distinguishes clauses and groups.
type sorter struct {
	*Roster
	clauses, groups map[string]uint32
}

// place returns the group of an object.
func (s *sorter) place(all rules, i int, o *Object) uint32 {
	var g group
	if !(o.entity.UID.Type == typeResource && Climbs(string(o.entity.UID.ID))) {
		g = s.group(all, i, o)
	}
	if !g.permitted && len(g.permits) == 0 {
		g = group{}
	}
	key := make([]byte, 0, 64)
	for _, some := range [][]uint32{g.permits, g.forbids} {
		key = binary.AppendUvarint(key, uint64(len(some)))
		for _, c := range some {
			key = binary.AppendUvarint(key, uint64(c))
		}
	}
	if g.permitted {
		key = append(key, 1)
	}
	n, ok := s.groups[string(key)]
	if !ok {
		n = uint32(len(s.Roster.groups))
		s.groups[string(key)] = n
		s.Roster.groups = append(s.Roster.groups, g)
	}
	return n
}

// group finds out what has to be looked at for an object.
func (s *sorter) group(all rules, i int, o *Object) (g group) {
	var covering rules
	var some parts
	for _, r := range all {
		// What can be approved can be called.
		if r.Approval != ApprovalNone || !covers(r.tree.Resource, o.entity) {
			continue
		}
		covering = append(covering, r)
		for p := range r.parts {
			if r.parts[p].fixed {
				some = append(some, &r.parts[p])
			}
		}
	}
	rest := some.evaluate(&Match{subject: new(Subject), action: s.action, object: o}, cedar.Record{})
	for _, r := range covering {
		states := make([]partState, len(r.parts))
		rest = r.states(states, rest, func(p *part) bool { return p.fixed })
		switch remains := r.remains(states); {
		case remains == remainsFalse:
		case remains == remainsTrue && !r.permits:
			return group{}
		case remains == remainsTrue:
			g.permitted = true
		case r.permits:
			g.permits = append(g.permits, s.clause(r, states, i, o))
		default:
			g.forbids = append(g.forbids, s.clause(r, states, i, o))
		}
	}
	return g
}

// clause returns the clause of a policy for an object. Two objects have the same if
// nothing but parts that are fixed looks at them, and these are the same for both.
func (s *sorter) clause(r *Rule, states []partState, i int, o *Object) uint32 {
	key := binary.AppendUvarint(nil, uint64(r.position))
	for _, state := range states {
		key = append(key, byte(state))
	}
	if slices.ContainsFunc(r.parts, func(p part) bool { return !p.fixed && p.object }) {
		key = binary.AppendUvarint(key, uint64(i))
	}
	n, ok := s.clauses[string(key)]
	if !ok {
		n = uint32(len(s.Roster.clauses))
		s.clauses[string(key)] = n
		s.Roster.clauses = append(s.Roster.clauses, clause{rules{r}, o})
		s.reads |= r.reads
	}
	return n
}

// What of a policy is still open when its fixed parts are known.
type remainder uint8

const (
	remainsOpen  remainder = iota
	remainsFalse           // it does not apply, whatever the situation
	remainsTrue            // it applies, or is a forbid that cannot be evaluated
)

// remains tells what the states of the fixed parts leave open of a policy.
func (r *Rule) remains(states []partState) remainder {
	leading := 0 // true ones
	for leading < len(states) && states[leading] == partTrue {
		leading++
	}
	if leading < len(states) && states[leading] == partFalse {
		return remainsFalse
	}
	if r.needs != 0 {
		// As long as what it reads is missing it counts, whatever the rest is.
		return remainsOpen
	}
	if r.permits && slices.ContainsFunc(states, func(s partState) bool { return s == partFalse || s == partBroken }) {
		return remainsFalse // for one that cannot be evaluated does not permit
	}
	if !r.settledScope() {
		return remainsOpen
	}
	if leading == len(states) || !r.permits && states[leading] == partBroken {
		return remainsTrue
	}
	return remainsOpen
}

// settledScope reports whether the scope is of a kind of which covers is exact.
func (r *Rule) settledScope() bool {
	settled := func(scope ast.IsScopeNode) bool {
		switch scope.(type) {
		case ast.ScopeTypeAll, ast.ScopeTypeEq, ast.ScopeTypeIn, ast.ScopeTypeInSet, ast.ScopeTypeIs, ast.ScopeTypeIsIn:
			return true
		}
		return false
	}
	return settled(r.tree.Principal) && settled(r.tree.Action) && settled(r.tree.Resource)
}

// Roll is a roster for one subject in one situation. It is for one goroutine.
type Roll struct {
	roster  *Roster
	match   Match // of the last clause
	context cedar.Record
	missing Needs

	clauses, groups []answer
}

// answer is what is known of a clause or a group.
type answer uint8

const (
	unasked answer = iota
	yes
	no
)

func answered(is bool) answer {
	if is {
		return yes
	}
	return no
}

// In asks about a subject whose view the roster is of.
func (r *Roster) In(subject *Subject, situation Situation) *Roll {
	situation.Arguments = nil
	return &Roll{
		roster:  r,
		match:   Match{subject: subject, action: r.action},
		context: situation.record(r.reads), missing: situation.missing(),
		clauses: make([]answer, len(r.clauses)), groups: make([]answer, len(r.groups)),
	}
}

// Callable reports what [Match.Callable] does of the object at a position.
func (l *Roll) Callable(i int) bool {
	n := l.roster.of[i]
	if l.groups[n] == unasked {
		l.groups[n] = answered(l.callable(&l.roster.groups[n]))
	}
	return l.groups[n] == yes
}

func (l *Roll) callable(g *group) bool {
	if !g.permitted && !slices.ContainsFunc(g.permits, l.may) {
		return false
	}
	return !slices.ContainsFunc(g.forbids, l.does)
}

// may reports whether a permit applies, or could with what is missing.
func (l *Roll) may(n uint32) bool {
	return l.roster.clauses[n].rule[0].needs&l.missing != 0 || l.does(n)
}

// does reports whether a clause applies. Whether a forbid does that reads what is
// missing cannot be told, and it does not count.
func (l *Roll) does(n uint32) bool {
	if l.clauses[n] == unasked {
		c := &l.roster.clauses[n]
		applies := false
		if c.rule[0].needs&l.missing == 0 {
			l.match.object = c.object
			applies = l.match.authorize(c.rule, l.context).Rule != nil
		}
		l.clauses[n] = answered(applies)
	}
	return l.clauses[n] == yes
}
