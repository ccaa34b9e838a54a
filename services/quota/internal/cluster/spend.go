package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// ErrUnreachable is the error of a spend whose owner gave no answer, or that
// nobody may decide about just now. What was taken of it is given back, but for
// what an owner took whose answer was lost.
var ErrUnreachable = errors.New("no word from the nodes that own the count")

// retryEvery is how often asks are sent again while a slot changes hands.
const retryEvery = 5 * time.Millisecond

// Take is [limiter.Limiter.Take] over all nodes. The error is
// [limiter.ErrFull] or [ErrUnreachable].
func (n *Node) Take(ctx context.Context, asks []limiter.Ask) (bool, error) {
	op := operation{verb: quotav1.AskVerb_ASK_VERB_TAKE}
	ok, err := n.take(ctx, asks, &op)
	if errors.Is(err, ErrUnreachable) {
		return n.without(ctx, asks, &op)
	}
	return ok, err
}

func (n *Node) take(ctx context.Context, asks []limiter.Ask, op *operation) (bool, error) {
	v, t := n.here(asks, op)
	if v == notMine {
		return n.spread(ctx, asks, op)
	}
	return n.told(ctx, v, t)
}

// Peek is [limiter.Limiter.Peek] over all nodes.
func (n *Node) Peek(ctx context.Context, asks []limiter.Ask) (bool, error) {
	return n.spread(ctx, asks, &operation{verb: quotav1.AskVerb_ASK_VERB_PEEK})
}

// told makes an answer of a verdict of this node, when the copies are made.
func (n *Node) told(ctx context.Context, v verdict, t ticket) (bool, error) {
	if len(t.waits) > 0 {
		ctx, cancel := context.WithTimeout(ctx, n.o.Config.Patience)
		defer cancel()
		if !n.await(ctx, t) {
			n.tally.undecided.Add(1)
			return false, ErrUnreachable
		}
	}
	switch v {
	case done:
		return true, nil
	case refused:
		return false, nil
	case full:
		return false, limiter.ErrFull
	}
	n.tally.undecided.Add(1)
	return false, ErrUnreachable
}

// spread decides asks of several owners: all or nothing.
//
//	known refusal, or refused here ──▶ refused, and no message was sent
//	      │ none
//	      ▼
//	reserve at every other owner, at once ──one does not own it just now──▶ again, what is not reserved
//	      │ all have          │ one refuses, or does not answer
//	      ▼                   ▼
//	take here  ──refused──▶ undo where it was reserved ──▶ refused, or lost
//	      │
//	      ▼
//	    done      (a reservation is the charge itself: nothing is left to commit)
//
// What is reserved is kept while a slot has no owner for a moment: to give it back
// and reserve it again would refuse others meanwhile, who ask once. An undo that gets
// lost leaves a charge that nobody enjoyed; nothing is ever admitted beyond a limit.
func (n *Node) spread(ctx context.Context, asks []limiter.Ask, op *operation) (bool, error) {
	op.until = n.o.Now() + n.o.Config.Patience
	for {
		changed := n.changes.next()
		a, ok := n.divide(asks, op)
		v, t := notMine, ticket{}
		if ok {
			v, t = a.decide(ctx)
		}
		if v != done && v != notMine {
			n.undoKept(asks, op)
		}
		if v == strange && n.otherwise(asks, op) {
			continue
		}
		if v != notMine && v != strange {
			return n.told(ctx, v, t)
		}
		now := n.o.Now()
		n.waitFor(ctx, changed, min(op.until, now+retryEvery))
		if ctx.Err() != nil || now >= op.until {
			n.undoKept(asks, op)
			n.tally.undecided.Add(1)
			return false, ErrUnreachable
		}
	}
}

// waitFor waits for a channel to be closed until a time, and reports whether it was. A
// timer that is used again costs less than a context for each check.
func (n *Node) waitFor(ctx context.Context, done <-chan struct{}, until time.Duration) bool {
	select {
	case <-done:
		return true
	default:
	}
	t, _ := n.timers.Get().(*time.Timer)
	if left := until - n.o.Now(); t == nil {
		t = time.NewTimer(left)
	} else {
		t.Reset(left)
	}
	defer func() {
		t.Stop() // after which nothing comes, see time.Timer
		n.timers.Put(t)
	}()
	select {
	case <-done:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// attempt is one try to decide asks.
type attempt struct {
	n      *Node
	op     *operation
	asks   []limiter.Ask
	own    []int // indexes of asks that are ours
	others []part
	drawn  []int // of those that grants have covered

	// What most need of own and others.
	ownRoom, otherRoom [4]int
	partRoom           [1]part
}

// part is what one other node decides.
type part struct {
	to   string
	asks []int
	sent time.Duration
	*call
}

// divide sorts asks by owner. It fails while a slot has none.
func (n *Node) divide(asks []limiter.Ask, op *operation) (*attempt, bool) {
	a := &attempt{n: n, op: op, asks: asks}
	a.own, a.others = a.ownRoom[:0], a.partRoom[:0]
	n.mu.RLock()
	defer n.mu.RUnlock()
	for i := range asks {
		if op.keeps(i) {
			continue
		}
		owner := n.view.owner(slotOf(asks[i].Key))
		if owner == "" && !op.shadow(n, asks[i].Limit) {
			return nil, false
		}
		if owner == "" { // such must not refuse
			asks[i].State = limiter.State{Unknown: true}
			continue
		}
		if op.without && owner != n.id && n.namesOf(op.verb).young(asks[i].Limit, n.o.Now()) {
			asks[i].State = limiter.State{Unknown: true}
			continue
		}
		if owner == n.id {
			a.own = append(a.own, i)
			continue
		}
		at := slices.IndexFunc(a.others, func(p part) bool { return p.to == owner })
		if at < 0 {
			at = len(a.others)
			a.others = append(a.others, part{to: owner})
			if at == 0 {
				a.others[at].asks = a.otherRoom[:0]
			}
		}
		a.others[at].asks = append(a.others[at].asks, i)
	}
	return a, true
}

// looks reports whether the operation takes nothing.
func (op *operation) looks() bool {
	return op.verb == quotav1.AskVerb_ASK_VERB_PEEK || op.verb == quotav1.AskVerb_ASK_VERB_PEEK_PERMITS
}

func (a *attempt) decide(ctx context.Context) (verdict, ticket) {
	a.draw()
	v, t := a.settle(ctx)
	if v != done {
		for _, i := range a.drawn {
			a.n.bank.putBack(&a.asks[i])
		}
	}
	return v, t
}

// draw takes what grants cover; the owners need not be asked about it.
func (a *attempt) draw() {
	if a.op.verb != quotav1.AskVerb_ASK_VERB_TAKE || a.op.ahead {
		return
	}
	now := a.n.o.Now()
	for j := range a.others {
		p := &a.others[j]
		p.asks = slices.DeleteFunc(p.asks, func(i int) bool {
			if !a.n.bank.draw(now, &a.asks[i]) {
				return false
			}
			a.drawn = append(a.drawn, i)
			return true
		})
	}
	a.others = slices.DeleteFunc(a.others, func(p part) bool { return len(p.asks) == 0 })
	if len(a.drawn) > 0 && len(a.others) == 0 {
		a.n.tally.granted.Add(1)
	}
}

// settle decides what no grant covers.
func (a *attempt) settle(ctx context.Context) (verdict, ticket) {
	if len(a.others) > 0 && !a.op.looks() {
		if v := a.foresee(); v != done {
			return v, ticket{}
		}
	}
	v := a.ask(ctx)
	if v != done && !a.op.looks() {
		a.giveUp(v)
		return v, ticket{}
	}
	if v == lost || v == notMine || v == strange || v == unknown || v == full || len(a.own) == 0 {
		return v, ticket{}
	}
	mine, t := a.here(a.op)
	switch {
	case mine == done:
		return v, t
	case !a.op.looks():
		a.giveUp(mine)
	}
	return mine, t
}

// giveUp undoes what the others have taken, or keeps it for the next attempt.
func (a *attempt) giveUp(v verdict) {
	if v != notMine || a.op.verb != quotav1.AskVerb_ASK_VERB_TAKE || a.op.ahead || a.op.spare {
		a.undo(a.others)
		return
	}
	for _, p := range a.others {
		if p.call != nil && p.verdict() == done {
			a.op.kept = append(a.op.kept, p)
		}
	}
}

// keeps reports whether an ask is reserved already.
func (op *operation) keeps(ask int) bool {
	return slices.ContainsFunc(op.kept, func(p part) bool { return slices.Contains(p.asks, ask) })
}

// undoKept undoes what earlier attempts have reserved.
func (n *Node) undoKept(asks []limiter.Ask, op *operation) {
	if len(op.kept) > 0 {
		(&attempt{n: n, op: op, asks: asks}).undo(op.kept)
		op.kept = nil
	}
}

// foresee finds out what can be known without a message.
func (a *attempt) foresee() verdict {
	known := false
	now := a.n.o.Now()
	if !ofPermits(a.op.verb) {
		for _, p := range a.others {
			for _, i := range p.asks {
				ask := &a.asks[i]
				ask.State = limiter.State{Unknown: true}
				known = !a.shadow(i) && a.n.denials.refuses(now, ask) || known
			}
		}
	}
	if len(a.own) == 0 {
		if known {
			a.n.tally.remembered.Add(1)
			return refused
		}
		return done
	}
	peek := operation{verb: quotav1.AskVerb_ASK_VERB_PEEK}
	if ofPermits(a.op.verb) {
		peek.verb = quotav1.AskVerb_ASK_VERB_PEEK_PERMITS
		for _, p := range a.others {
			for _, i := range p.asks {
				a.asks[i].State = limiter.State{Unknown: true}
			}
		}
	}
	v, _ := a.here(&peek)
	if v == refused && !ofPermits(a.op.verb) {
		a.punish()
	}
	if (v == notMine || v == unknown) && a.op.spare {
		v = done // it is seen later what is done without
	}
	if known {
		a.n.tally.remembered.Add(1)
		return refused
	}
	return v
}

func (op *operation) shadow(n *Node, limit uint32) bool {
	switch {
	case op.verb == quotav1.AskVerb_ASK_VERB_RELEASE:
		return false
	case ofPermits(op.verb):
		return n.o.Permits.Shadow(limit)
	}
	return n.o.Limiter.Shadow(limit)
}

func (a *attempt) shadow(i int) bool { return a.op.shadow(a.n, a.asks[i].Limit) }

// here decides our own part.
func (a *attempt) here(op *operation) (verdict, ticket) {
	asks := make([]limiter.Ask, len(a.own))
	for j, i := range a.own {
		asks[j] = a.asks[i]
	}
	v, t := a.n.here(asks, op)
	for j, i := range a.own {
		a.asks[i] = asks[j]
	}
	if v == notMine && a.allShadow(a.own) { // such must not refuse
		a.unknown(a.own)
		v = done
	}
	if (v == notMine || v == unknown) && !op.looks() {
		if spared := a.spareOwner(a.own); spared != notMine {
			v = spared
		}
	}
	return v, t
}

// ask sends all parts of others, and reads the answers.
func (a *attempt) ask(ctx context.Context) verdict {
	verb := a.op.verb
	if verb == quotav1.AskVerb_ASK_VERB_TAKE && len(a.others)+min(len(a.own), 1)+len(a.op.kept) > 1 {
		verb = quotav1.AskVerb_ASK_VERB_RESERVE
	}
	if len(a.others) > 0 {
		a.n.tally.forwarded.Add(1)
	}
	for i := range a.others {
		p := &a.others[i]
		p.call = a.call(p.asks, verb)
		p.sent = a.n.o.Now()
		if verb == quotav1.AskVerb_ASK_VERB_TAKE || verb == quotav1.AskVerb_ASK_VERB_RESERVE {
			for j, i := range p.asks {
				if ask := &a.asks[i]; !a.op.ahead && !a.n.o.Limiter.Penalty(ask.Limit) { // whose refusals the owner has to count
					p.group.asks[j].want = a.n.bank.wants(p.sent, item{ask.Limit, ask.Key})
				}
			}
		}
		if l := a.n.link(p.to); i+1 < len(a.others) {
			l.send(p.call)
		} else {
			l.do(ctx, p.call)
		}
	}
	worst, denied := done, false
	for i := range a.others {
		p := &a.others[i]
		v := lost
		if a.n.waitFor(ctx, p.done, a.op.until) {
			v = p.verdict()
		} else {
			p.call = nil // its answer, if it comes, is nobody's
		}
		switch v {
		case done, refused:
			if !a.read(p) {
				v = lost
			}
			denied = denied || v == refused
		}
		switch v {
		case notMine, strange, unknown, full, lost:
			a.unknown(p.asks)
			if a.allShadow(p.asks) { // such must not refuse
				v, p.call = done, nil
			} else if v != full {
				if spared := a.spareOwner(p.asks); spared != notMine {
					v, p.call, denied = spared, nil, denied || spared == refused
				}
			}
		}
		worst = max(worst, v)
	}
	if denied { // whatever the others say
		return refused
	}
	return worst
}

func (a *attempt) allShadow(asks []int) bool {
	return !slices.ContainsFunc(asks, func(i int) bool { return !a.shadow(i) })
}

func (a *attempt) unknown(asks []int) {
	for _, i := range asks {
		a.asks[i].State = limiter.State{Unknown: true}
	}
}

// undo gives back what others have taken. Nobody waits for it.
func (a *attempt) undo(parts []part) {
	for i := range parts {
		p := &parts[i]
		if p.call == nil || p.verdict() != done {
			continue
		}
		verb := quotav1.AskVerb_ASK_VERB_UNDO
		if ofPermits(a.op.verb) {
			verb = quotav1.AskVerb_ASK_VERB_RELEASE
		}
		g := a.group(p.asks, verb)
		for j := range p.answer.states {
			to, s := &g.asks[j], &p.answer.states[j]
			to.mark, to.reign = s.mark, s.reign
			if s.mark != 0 {
				a.asks[p.asks[j]].State.Remaining += to.cost
			}
		}
		a.n.link(p.to).send(&call{group: g})
	}
}
