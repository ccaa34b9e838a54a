package cluster

import "github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"

// punished are the asks whose limits count what they have refused.
func (n *Node) punished(asks []limiter.Ask) (some []limiter.Ask) {
	for i := range asks {
		if asks[i].State.Exceeded && n.o.Limiter.Penalty(asks[i].Limit) {
			some = append(some, asks[i])
		}
	}
	return some
}

// punish lets those of our limits that refuse count it, where that is known before
// anything was asked of others.
func (a *attempt) punish() {
	var own []limiter.Ask
	for _, i := range a.own {
		own = append(own, a.asks[i])
	}
	own = a.n.punished(own)
	a.n.mu.RLock()
	defer a.n.mu.RUnlock()
	if len(own) == 0 || !a.n.serves(own) {
		return
	}
	a.n.o.Limiter.Punish(a.n.o.Now(), own)
	a.n.changed(own, a.op)
	for _, o := range own {
		for _, i := range a.own {
			if a.asks[i].Limit == o.Limit && a.asks[i].Key == o.Key {
				a.asks[i].State = o.State
			}
		}
	}
}
