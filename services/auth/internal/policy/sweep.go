package policy

import "github.com/cedar-policy/cedar-go"

// Sweep decides about many objects of one type: the same as [Match], with what
// does not depend on the object done once. It is for one goroutine.
type Sweep struct {
	kind    cedar.EntityType
	make    func(target string) *Object
	context cedar.Record
	missing Needs
	rules   rules
	match   Match // of the last object

	settled bool // the verdict is the same for all
	verdict bool
}

// NewSweep prepares to ask what a subject may do with which objects; object
// makes them, [NewResource] or [NewPrompt].
func (s *Set) NewSweep(subject *Subject, action Action, object func(string) *Object, situation Situation) *Sweep {
	situation.Arguments = nil
	some := object("")
	w := &Sweep{
		kind:    some.entity.UID.Type,
		make:    object,
		missing: situation.missing(),
		match:   Match{subject: subject, action: action},
		settled: true,
	}
	var read attributes
	for _, r := range s.rules {
		if covers(r.tree.Principal, subject.entity) && covers(r.tree.Action, action.entity) && concerns(r.tree.Resource, w.kind) {
			w.rules = append(w.rules, r)
			read |= r.reads
			w.settled = w.settled && !r.readsObject
		}
	}
	w.context = situation.record(read)
	if w.settled = w.settled || !w.rules.anyPermits(); w.settled {
		w.verdict = w.ask(some)
	}
	return w
}

// Callable reports what [Match.Callable] does of the object that is made of a
// target.
func (w *Sweep) Callable(target string) bool {
	if w.settled {
		return w.verdict && !(w.kind == typeResource && Climbs(target))
	}
	return w.ask(w.make(target))
}

func (w *Sweep) ask(object *Object) bool {
	w.match.turn(object, w.rules)
	return w.match.callable(w.context, w.missing)
}
