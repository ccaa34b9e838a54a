package cluster

import (
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

const (
	denialShards = 16
	// denialsPerShard bounds the memory; one that is full forgets all.
	denialsPerShard = 4096
	// rememberFor is how long a refusal is believed at most. A limit that a check
	// gave back to, or that was raised, refuses no longer than that.
	rememberFor = time.Second
)

// denials remembers refusals of other owners, so that whoever is over his limit
// costs no message. Nothing but time makes room, so a refusal stays right until
// its wait is over.
type denials struct {
	shards [denialShards]struct {
		sync.Mutex
		m map[item]denial
	}
}

type denial struct {
	cost  uint32
	at    time.Duration
	until time.Duration
	state limiter.State
}

func (d *denials) add(now time.Duration, a *limiter.Ask) {
	s := &d.shards[a.Key.Lo%denialShards]
	s.Lock()
	defer s.Unlock()
	if s.m == nil || len(s.m) >= denialsPerShard {
		s.m = make(map[item]denial)
	}
	s.m[item{a.Limit, a.Key}] = denial{cost: a.Cost, at: now, until: now + min(a.State.Wait, rememberFor), state: a.State}
}

// refuses reports whether an ask is known to be refused, and then gives it the
// state.
func (d *denials) refuses(now time.Duration, a *limiter.Ask) bool {
	s := &d.shards[a.Key.Lo%denialShards]
	s.Lock()
	defer s.Unlock()
	den, ok := s.m[item{a.Limit, a.Key}]
	if !ok {
		return false
	}
	if now >= den.until {
		delete(s.m, item{a.Limit, a.Key})
		return false
	}
	if a.Cost < den.cost {
		return false
	}
	// A higher cost would wait longer; how long only the owner knows.
	a.State = den.state
	a.State.Reset = max(den.state.Reset-(now-den.at), 1)
	if den.state.Wait != limiter.Never {
		a.State.Wait = den.state.Wait - (now - den.at)
	}
	return true
}

// forget drops all refusals.
func (d *denials) forget() {
	for i := range d.shards {
		s := &d.shards[i]
		s.Lock()
		s.m = nil
		s.Unlock()
	}
}
