package policy

import (
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Candidates are the permits that cover one action and object, whoever asks: those
// that can be near misses. They never change; to keep them saves most of the work
// of the next denial, since most of what they miss depends on the object alone.
type Candidates struct {
	all   []candidate
	reads attributes // of the context
}

// candidate is a permit that could be a near miss.
type candidate struct {
	rule *Rule
	// states are of its parts. Those that are not fixed are unknown.
	states []partState
}

// Candidates finds the permits whose scopes cover an action and an object.
func (s *Set) Candidates(action Action, object *Object) *Candidates {
	c := new(Candidates)
	var some parts
	for _, r := range s.rules {
		if !r.permits || !covers(r.tree.Action, action.entity) || !covers(r.tree.Resource, object.entity) {
			continue
		}
		c.reads |= r.reads
		one := candidate{rule: r, states: make([]partState, len(r.parts))}
		for i := range r.parts {
			if r.parts[i].fixed {
				some = append(some, &r.parts[i])
			}
		}
		c.all = append(c.all, one)
	}
	nobody := &Match{subject: new(Subject), action: action, object: object}
	rest := some.evaluate(nobody, cedar.Record{})
	for i := range c.all {
		one := &c.all[i]
		rest = one.rule.states(one.states, rest, func(p *part) bool { return p.fixed })
	}
	return c
}

// weighed is a candidate of one decision.
type weighed struct {
	*candidate
	stranger bool // it is for another principal

	evaluated bool // if not, some of what follows is not known yet
	states    []partState
	distance  int // how many things are missing, as far as is known
}

// near returns those that were nearest to permit, at most maxNear, nearest first and
// then as written. Only as many are evaluated as that takes.
func (c *Candidates) near(m *Match, situation Situation) (near []NearMiss) {
	unsent, context := situation.missing(), situation.record(c.reads)
	all := make([]weighed, len(c.all))
	for i := range all {
		all[i] = weighed{candidate: &c.all[i], stranger: !covers(c.all[i].rule.tree.Principal, m.subject.entity)}
		all[i].settle(c.all[i].states)
	}
	for d := 1; d < math.MaxInt; { // those at 0 cannot tell what was missing
		next := math.MaxInt
		for i := range all {
			w := &all[i]
			if w.distance <= d && !w.evaluated {
				evaluate(upTo(d, all[i:]), m, context, unsent)
			}
			if w.distance > d {
				next = min(next, w.distance)
			}
			if w.distance != d {
				continue
			}
			if near = append(near, NearMiss{w.rule, clip(w.text(), maxInput)}); len(near) == maxNear {
				return near
			}
		}
		d = next
	}
	return near
}

// settle takes what is known of the parts.
func (w *weighed) settle(states []partState) {
	w.states, w.distance = states, missing(states)
	if w.stranger {
		w.distance++
	}
}

// upTo returns the first of those that are not evaluated and could miss no more than
// d things, as many as there is room for in the end.
func upTo(d int, all []weighed) (some []*weighed) {
	some = make([]*weighed, 0, maxNear)
	for i := range all {
		if w := &all[i]; w.distance <= d && !w.evaluated && len(some) < maxNear {
			some = append(some, w)
		}
	}
	return some
}

// evaluate finds out about the parts that are not fixed and do not read what was
// not sent, of some candidates at once.
func evaluate(some []*weighed, m *Match, context cedar.Record, unsent Needs) {
	asked := func(p *part) bool { return !p.fixed && p.needs&unsent == 0 }
	var open parts
	for _, w := range some {
		for i := range w.rule.parts {
			if p := &w.rule.parts[i]; asked(p) {
				open = append(open, p)
			}
		}
	}
	rest := open.evaluate(m, context)
	for _, w := range some {
		states := slices.Clone(w.states)
		rest = w.rule.states(states, rest, asked)
		w.settle(states)
		w.evaluated = true
	}
}

// text says what the candidate wants that is not so.
func (w *weighed) text() string {
	var all []string
	if w.stranger {
		all = append(all, wanted(w.rule.tree.Principal))
	}
	firm, unknown := true, false
	for i, state := range w.states {
		p := &w.rule.parts[i]
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

// partState is what is known of a part.
type partState uint8

const (
	partUnknown partState = iota
	partFalse
	partTrue
	partBroken // it cannot be evaluated
)

// missing counts the parts that keep a policy from applying, without those that are
// not known. In the policy a part is not evaluated where one before it is false, so
// that it cannot be is no news then.
func missing(states []partState) (n int) {
	for _, s := range states {
		if s == partFalse || s == partBroken && n == 0 {
			n++
		}
	}
	return n
}

// parts lets Cedar evaluate parts of policies, each alone.
type parts []*part

// All implements [cedar.PolicyIterator].
func (ps parts) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range ps {
			if !yield(p.id, p.compiled) {
				return
			}
		}
	}
}

func (ps parts) evaluate(m *Match, context cedar.Record) results {
	if len(ps) == 0 {
		return results{}
	}
	_, diagnostic := cedar.Authorize(ps, entities{m}, m.request(context))
	return results{diagnostic.Reasons, diagnostic.Errors}
}

// results are what Cedar says of parts, in the order of the parts: which are true,
// and which cannot be evaluated.
type results struct {
	reasons []cedar.DiagnosticReason
	errors  []cedar.DiagnosticError
}

// states writes what is known of the parts that were asked for, whose results come
// first, and returns the other results.
func (r *Rule) states(states []partState, all results, asked func(*part) bool) (rest results) {
	for i := range r.parts {
		if p := &r.parts[i]; asked(p) {
			states[i], all = all.next(p)
		}
	}
	return all
}

// next returns what is known of a part, and the results of those after it.
func (rs results) next(p *part) (partState, results) {
	switch {
	case len(rs.reasons) > 0 && rs.reasons[0].PolicyID == p.id:
		return partTrue, results{rs.reasons[1:], rs.errors}
	case len(rs.errors) > 0 && rs.errors[0].PolicyID == p.id:
		return partBroken, results{rs.reasons, rs.errors[1:]}
	}
	return partFalse, rs
}

// fixed reports whether an expression depends on the action and the object alone:
// it reads neither the principal, also not by his name, nor the context.
func fixed(n ast.IsNode) bool {
	it := true
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		v, ok := n.(ast.NodeTypeVariable)
		it = it && !(ok && (v.Name == "principal" || v.Name == "context"))
		return it
	})
	literals(n, func(uid cedar.EntityUID) { it = it && uid.Type != typePrincipal })
	return it
}
