package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// NATS is the wire of a bus.
func NATS(b *bus.Bus) Wire { return natsWire{b} }

type natsWire struct{ b *bus.Bus }

// Ask implements [Wire].
func (w natsWire) Ask(ctx context.Context, subject string, q *quotav1.ClusterRequest) (*quotav1.ClusterReply, error) {
	return bus.Ask[*quotav1.ClusterRequest, *quotav1.ClusterReply](ctx, w.b, subject, q)
}

// Answer implements [Wire].
func (w natsWire) Answer(subject string, on func(context.Context, *quotav1.ClusterRequest) *quotav1.ClusterReply) (func(), error) {
	return bus.Answer(w.b, subject, on)
}

func askSubject(id string) string   { return bus.SubjectQuotaAsks + id }
func copySubject(id string) string  { return bus.SubjectQuotaCopies + id }
func checkSubject(id string) string { return bus.SubjectQuotaChecks + id }

// answer takes requests for a member. Copies never wait for anything; asks may
// wait for a copy, and checks for asks, so they cannot wait for each other in a
// ring.
func (n *Node) answer(id string) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	for subject, on := range map[string]func(context.Context, *quotav1.ClusterRequest) *quotav1.ClusterReply{
		askSubject(id): n.onAsks, copySubject(id): n.onCopy, checkSubject(id): n.onCheck,
	} {
		s, err := n.o.Wire.Answer(subject, bounded(on))
		if err != nil {
			stop()
			return nil, err
		}
		stops = append(stops, s)
	}
	if n.o.Seat != nil {
		s, err := n.o.Seat(id)
		if err != nil {
			stop()
			return nil, err
		}
		stops = append(stops, s)
	}
	return stop, nil
}

func (n *Node) onCopy(_ context.Context, q *quotav1.ClusterRequest) *quotav1.ClusterReply {
	switch {
	case q.GetCopy() != nil:
		return &quotav1.ClusterReply{Reply: &quotav1.ClusterReply_Copy{Copy: n.takeCopy(q.GetCopy())}}
	case q.GetHoldings() != nil:
		return &quotav1.ClusterReply{Reply: &quotav1.ClusterReply_Holdings{Holdings: n.holdings(q.GetHoldings())}}
	case q.GetPage() != nil:
		return &quotav1.ClusterReply{Reply: &quotav1.ClusterReply_Page{Page: n.page(q.GetPage())}}
	}
	return &quotav1.ClusterReply{}
}

// onAsks answers a frame. If answers wait for copies, those of a frame wait
// together.
func (n *Node) onAsks(ctx context.Context, q *quotav1.ClusterRequest) *quotav1.ClusterReply {
	groups := q.GetAsks().GetGroups()
	reply := &quotav1.AskReply{Answers: make([]*quotav1.AskAnswer, len(groups))}
	var tickets ticket
	for i, g := range groups {
		var t ticket
		reply.Answers[i], t = n.answerGroup(g)
		tickets.waits = append(tickets.waits, t.waits...)
	}
	if len(tickets.waits) > 0 {
		ctx, cancel := context.WithTimeout(ctx, n.o.Config.Patience)
		defer cancel()
		if !n.await(ctx, tickets) {
			return &quotav1.ClusterReply{} // nobody knows what of it will last
		}
	}
	return &quotav1.ClusterReply{Reply: &quotav1.ClusterReply_Asks{Asks: reply}}
}

// answers are an answer and what is needed to find it.
type answers struct {
	asks   []limiter.Ask
	reigns []uint64
	m      *quotav1.AskAnswer
	states []quotav1.AskState
}

// newAnswers has room for some asks; for one, as most have, in one piece.
func newAnswers(count int) answers {
	if count != 1 {
		return answers{
			make([]limiter.Ask, count), make([]uint64, count),
			&quotav1.AskAnswer{States: make([]*quotav1.AskState, count)}, make([]quotav1.AskState, count),
		}
	}
	one := &struct {
		asks   [1]limiter.Ask
		reigns [1]uint64
		m      quotav1.AskAnswer
		list   [1]*quotav1.AskState
		states [1]quotav1.AskState
	}{}
	one.m.States = one.list[:]
	return answers{one.asks[:], one.reigns[:], &one.m, one.states[:]}
}

func (n *Node) answerGroup(g *quotav1.AskGroup) (*quotav1.AskAnswer, ticket) {
	names := n.namesOf(g.GetVerb())
	a := newAnswers(len(g.GetAsks()))
	asks, reigns, m := a.asks, a.reigns, a.m
	for i, a := range g.GetAsks() {
		number, ok := names.byName[a.GetLimit()]
		if !ok && g.GetVerb() != quotav1.AskVerb_ASK_VERB_RELEASE {
			return &quotav1.AskAnswer{Outcome: quotav1.AskOutcome_ASK_OUTCOME_NO_LIMIT}, ticket{}
		}
		asks[i] = limiter.Ask{Limit: number, Key: limiter.Key{Hi: a.GetHi(), Lo: a.GetLo()}, Cost: max(a.GetCost(), 1), Mark: a.GetMark()}
		reigns[i] = a.GetReign()
		if g.GetVerb() == quotav1.AskVerb_ASK_VERB_UNDO && names.at(number, 0) != a.GetLimit() {
			asks[i].Mark = 0 // it was left by counters of another form
		}
	}
	op := operation{verb: g.GetVerb(), permit: g.GetPermitId(), ttl: time.Duration(g.GetTtlNanos()), reigns: reigns}
	var v verdict
	var t ticket
	switch op.verb {
	case quotav1.AskVerb_ASK_VERB_UNDO, quotav1.AskVerb_ASK_VERB_RELEASE:
		v = n.giveBack(asks, &op)
	case quotav1.AskVerb_ASK_VERB_PEEK, quotav1.AskVerb_ASK_VERB_TAKE, quotav1.AskVerb_ASK_VERB_RESERVE,
		quotav1.AskVerb_ASK_VERB_PEEK_PERMITS, quotav1.AskVerb_ASK_VERB_ACQUIRE:
		v, t = n.here(asks, &op)
	default:
		v = lost
	}
	m.Outcome = outcomeOf(v)
	if v != done && v != refused {
		m.States = nil
		return m, t
	}
	if v == done && op.verb == quotav1.AskVerb_ASK_VERB_RESERVE {
		n.reserved.add(n.o.Now(), asks)
	}
	n.tell(&a, &op)
	if v == done {
		for i, ask := range g.GetAsks() {
			if ask.GetWant() > 0 {
				t.waits = append(t.waits, n.grant(ask.GetWant(), &asks[i], m.GetStates()[i]).waits...)
			}
		}
	}
	return m, t
}

func outcomeOf(v verdict) quotav1.AskOutcome {
	switch v {
	case done:
		return quotav1.AskOutcome_ASK_OUTCOME_DONE
	case refused:
		return quotav1.AskOutcome_ASK_OUTCOME_REFUSED
	case full:
		return quotav1.AskOutcome_ASK_OUTCOME_FULL
	case unknown:
		return quotav1.AskOutcome_ASK_OUTCOME_UNKNOWN_COUNT
	case notMine, strange, lost:
	}
	return quotav1.AskOutcome_ASK_OUTCOME_NOT_MINE
}

// tell fills in what the asks saw.
func (n *Node) tell(a *answers, op *operation) {
	for i := range a.asks {
		from, to := &a.asks[i], &a.states[i]
		to.Remaining = from.State.Remaining
		to.ResetNanos = int64(from.State.Reset)
		to.Exceeded = from.State.Exceeded
		to.WaitNanos = int64(from.State.Wait)
		to.Mark = from.Mark
		to.SlackNanos = int64(from.State.Slack)
		to.Reign = a.reigns[i]
		to.Unsettled = to.Exceeded && (ofPermits(op.verb) || n.reserved.has(n.o.Now(), item{from.Limit, from.Key}))
		a.m.States[i] = to
	}
}

// settleWithin is how long a reservation makes refusals unsettled: longer than
// the way back and forth takes.
const settleWithin = 20 * time.Millisecond

// reserved remembers what was reserved a moment ago.
type reserved struct {
	mu sync.Mutex
	at map[item]time.Duration
}

func (r *reserved) add(now time.Duration, asks []limiter.Ask) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.at) >= 4096 {
		for it, at := range r.at {
			if now-at >= settleWithin {
				delete(r.at, it)
			}
		}
	}
	for i := range asks {
		r.at[item{asks[i].Limit, asks[i].Key}] = now
	}
}

func (r *reserved) has(now time.Duration, it item) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.at[it]
	return ok && now-at < settleWithin
}

func (n *Node) onCheck(ctx context.Context, q *quotav1.ClusterRequest) *quotav1.ClusterReply {
	m := &quotav1.ForwardedCheck{}
	if q.GetCheck() != nil {
		m.Response = n.o.Check(ctx, q.GetCheck())
	}
	return &quotav1.ClusterReply{Reply: &quotav1.ClusterReply_Check{Check: m}}
}

// Forward lets the node that owns key decide a check, so that it alone remembers
// the answer. It reports false if that is this node. The error is ErrUnreachable.
func (n *Node) Forward(ctx context.Context, key limiter.Key, q *quotav1.CheckRequest) (*quotav1.CheckResponse, bool, error) {
	n.mu.RLock()
	owner, id := n.view.owner(slotOf(key)), n.id
	n.mu.RUnlock()
	if owner == id {
		return nil, false, nil
	}
	if owner == "" {
		return nil, true, ErrUnreachable
	}
	reply, err := n.o.Wire.Ask(ctx, checkSubject(owner), &quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Check{Check: q}})
	if err != nil || reply.GetCheck().GetResponse() == nil {
		return nil, true, errors.Join(ErrUnreachable, err)
	}
	return reply.GetCheck().GetResponse(), true, nil
}
