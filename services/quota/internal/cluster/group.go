package cluster

import (
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// single is a call about one limit, and all that belongs to it.
type single struct {
	call  call
	group quotav1.AskGroup
	ask   quotav1.ClusterAsk
	asks  [1]*quotav1.ClusterAsk
}

// call makes one of asks that somebody waits for.
func (a *attempt) call(asks []int, verb quotav1.AskVerb) *call {
	done := make(chan struct{})
	if len(asks) != 1 {
		return &call{group: a.group(asks, verb), done: done}
	}
	s := &single{}
	s.asks[0] = &s.ask
	s.group.Asks = s.asks[:]
	s.call.group, s.call.done = a.fill(&s.group, asks, verb), done
	return &s.call
}

func (a *attempt) group(asks []int, verb quotav1.AskVerb) *quotav1.AskGroup {
	all := make([]quotav1.ClusterAsk, len(asks))
	g := &quotav1.AskGroup{Asks: make([]*quotav1.ClusterAsk, len(asks))}
	for i := range all {
		g.Asks[i] = &all[i]
	}
	return a.fill(g, asks, verb)
}

// fill fills in a group that has room for the asks.
func (a *attempt) fill(g *quotav1.AskGroup, asks []int, verb quotav1.AskVerb) *quotav1.AskGroup {
	names := a.n.namesOf(verb)
	g.Verb, g.PermitId, g.TtlNanos = verb, a.op.permit, int64(a.op.ttl)
	for j, i := range asks {
		ask, to := &a.asks[i], g.Asks[j]
		to.Hi, to.Lo, to.Cost = ask.Key.Hi, ask.Key.Lo, ask.Cost
		if verb != quotav1.AskVerb_ASK_VERB_RELEASE { // which knows the slots alone
			to.Limit = names.at(ask.Limit, a.op.age)
		}
	}
	return g
}

// read takes the states of an answer, and remembers refusals.
func (a *attempt) read(p *part) bool {
	states := p.answer.GetStates()
	if len(states) != len(p.asks) {
		return false
	}
	now := a.n.o.Now()
	for j, i := range p.asks {
		ask, s := &a.asks[i], states[j]
		ask.State = limiter.State{
			Remaining: s.GetRemaining(), Reset: time.Duration(s.GetResetNanos()),
			Exceeded: s.GetExceeded(), Wait: time.Duration(s.GetWaitNanos()), Slack: time.Duration(s.GetSlackNanos()),
		}
		if a.op.ahead {
			ask.Mark = s.GetMark()
		}
		if s.GetGranted() > 0 {
			if r := a.n.bank.deposit(p.sent, ask, s); r != nil {
				a.n.giveUp(r)
			}
		}
		if s.GetExceeded() && !s.GetUnsettled() && !a.shadow(i) && !a.op.looks() && (ofPermits(a.op.verb) || !a.n.o.Limiter.Penalty(ask.Limit)) {
			a.n.denials.add(now, ask)
		}
	}
	return true
}
