package cluster

import quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"

// single is a call about one limit, and all that belongs to it.
type single struct {
	call call
	asks [1]asked
}

// call makes one of asks that somebody waits for.
func (a *attempt) call(asks []int, verb quotav1.AskVerb) *call {
	done := make(chan struct{})
	if len(asks) != 1 {
		return &call{group: a.group(asks, verb), done: done}
	}
	s := &single{}
	s.call.group, s.call.done = a.fill(s.asks[:], asks, verb), done
	return &s.call
}

func (a *attempt) group(asks []int, verb quotav1.AskVerb) group {
	return a.fill(make([]asked, len(asks)), asks, verb)
}

// fill makes a group, and uses what there is room for the asks in.
func (a *attempt) fill(room []asked, asks []int, verb quotav1.AskVerb) group {
	names := a.n.namesOf(verb)
	for j, i := range asks {
		ask, to := &a.asks[i], &room[j]
		to.key, to.cost = ask.Key, ask.Cost
		if verb != quotav1.AskVerb_ASK_VERB_RELEASE { // which knows the slots alone
			to.limit = names.at(ask.Limit, a.op.age)
		}
	}
	return group{verb: verb, asks: room, permit: a.op.permit, ttl: a.op.ttl}
}

// read takes the states of an answer, and remembers refusals.
func (a *attempt) read(p *part) bool {
	states := p.answer.states
	if len(states) != len(p.asks) {
		return false
	}
	now := a.n.o.Now()
	for j, i := range p.asks {
		ask, t := &a.asks[i], &states[j]
		ask.State = t.state
		if a.op.ahead {
			ask.Mark = t.mark
		}
		if t.granted > 0 {
			if r := a.n.bank.deposit(p.sent, ask, t); r != nil {
				a.n.giveUp(r)
			}
		}
		if t.state.Exceeded && !t.unsettled && !a.shadow(i) && !a.op.looks() && (ofPermits(a.op.verb) || !a.n.o.Limiter.Penalty(ask.Limit)) {
			a.n.denials.add(now, ask)
		}
	}
	return true
}
