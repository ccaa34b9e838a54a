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
	groups, err := groupsOf(q.GetAsks())
	if err != nil {
		n.o.Log.Warn("what another quota node asks cannot be read", "err", err)
		return &quotav1.ClusterReply{}
	}
	reply, states := &quotav1.AskReply{}, 0
	var tickets ticket
	for i := range groups {
		a, t := n.answerGroup(&groups[i])
		states = addAnswer(reply, states, &a)
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

// deciding is what is needed to decide a group.
type deciding struct {
	asks   []limiter.Ask
	reigns []uint64
	states []told
}

// newDeciding has room for some asks; for one, as most have, in one piece.
func newDeciding(count int) deciding {
	if count != 1 {
		return deciding{make([]limiter.Ask, count), make([]uint64, count), make([]told, count)}
	}
	one := &struct {
		asks   [1]limiter.Ask
		reigns [1]uint64
		states [1]told
	}{}
	return deciding{one.asks[:], one.reigns[:], one.states[:]}
}

func (n *Node) answerGroup(g *group) (answer, ticket) {
	names := n.namesOf(g.verb)
	d := newDeciding(len(g.asks))
	for i := range g.asks {
		a := &g.asks[i]
		number, ok := names.byName[a.limit]
		if !ok && g.verb != quotav1.AskVerb_ASK_VERB_RELEASE {
			return answer{outcome: quotav1.AskOutcome_ASK_OUTCOME_NO_LIMIT}, ticket{}
		}
		d.asks[i] = limiter.Ask{Limit: number, Key: a.key, Cost: max(a.cost, 1), Mark: a.mark}
		d.reigns[i] = a.reign
		if g.verb == quotav1.AskVerb_ASK_VERB_UNDO && names.at(number, 0) != a.limit {
			d.asks[i].Mark = 0 // it was left by counters of another form
		}
	}
	asks, op := d.asks, operation{verb: g.verb, permit: g.permit, ttl: g.ttl, reigns: d.reigns}
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
	if v != done && v != refused {
		return answer{outcome: outcomeOf(v)}, t
	}
	if v == done && op.verb == quotav1.AskVerb_ASK_VERB_RESERVE {
		n.reserved.add(n.o.Now(), asks)
	}
	n.tell(&d, &op)
	if v == done {
		for i := range g.asks {
			if want := g.asks[i].want; want > 0 {
				t.waits = append(t.waits, n.grant(want, &asks[i], &d.states[i]).waits...)
			}
		}
	}
	return answer{outcomeOf(v), d.states}, t
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
func (n *Node) tell(d *deciding, op *operation) {
	for i := range d.asks {
		from, to := &d.asks[i], &d.states[i]
		to.state = from.State
		to.mark, to.reign = from.Mark, d.reigns[i]
		to.unsettled = from.State.Exceeded && (ofPermits(op.verb) || n.reserved.has(n.o.Now(), item{from.Limit, from.Key}))
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
