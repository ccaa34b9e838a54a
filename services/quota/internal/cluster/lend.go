package cluster

import (
	"context"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Lend is [Node.Take] for what is to be spent later and may come back by
// [Node.GiveBack], which needs the asks with their marks, and the reigns. It tries
// once, asks the owners of all keys whatever they have granted, and reports false if
// one of them refuses or does not answer. The slack in the states is that of the
// owners' clocks, from when they took it.
func (n *Node) Lend(ctx context.Context, asks []limiter.Ask) (reigns []uint64, ok bool) {
	op := &operation{verb: quotav1.AskVerb_ASK_VERB_TAKE, ahead: true, until: n.o.Now() + n.o.Config.Patience}
	a, ok := n.divide(asks, op)
	if !ok {
		return nil, false
	}
	op.reigns = make([]uint64, len(a.own))
	v, t := a.decide(ctx)
	ok, err := n.told(ctx, v, t)
	if !ok || err != nil {
		return nil, false
	}
	reigns = make([]uint64, len(asks))
	for j, i := range a.own {
		reigns[i] = op.reigns[j]
	}
	for _, p := range a.others {
		if p.call == nil {
			continue // of shadow limits whose owner is gone
		}
		for j, i := range p.asks {
			reigns[i] = p.answer.states[j].reign
		}
	}
	return reigns, true
}

// GiveBack undoes what Lend has taken, as far as it still counts where it was
// taken. Nobody waits for it; what gets lost stays taken.
func (n *Node) GiveBack(asks []limiter.Ask, reigns []uint64) {
	names := n.namesOf(quotav1.AskVerb_ASK_VERB_UNDO)
	groups := make(map[string]*group)
	var own []limiter.Ask
	op := operation{verb: quotav1.AskVerb_ASK_VERB_UNDO}
	n.mu.RLock()
	view, id := n.view, n.id
	n.mu.RUnlock()
	for i := range asks {
		owner := view.owner(slotOf(asks[i].Key))
		switch {
		case owner == "" || asks[i].Mark == 0:
			continue
		case owner == id:
			own, op.reigns = append(own, asks[i]), append(op.reigns, reigns[i])
			continue
		case groups[owner] == nil:
			groups[owner] = &group{verb: quotav1.AskVerb_ASK_VERB_UNDO}
		}
		g, a := groups[owner], &asks[i]
		g.asks = append(g.asks, asked{limit: names.at(a.Limit, 0), key: a.Key, cost: a.Cost, mark: a.Mark, reign: reigns[i]})
	}
	if len(own) > 0 {
		n.giveBack(own, &op)
	}
	for owner, g := range groups {
		n.link(owner).send(&call{group: *g})
	}
}
