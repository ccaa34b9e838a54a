package limiter

import (
	"container/heap"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// PermitSpec is one limit of how many permits of a key may live at a time.
type PermitSpec struct {
	Max uint32
	// TTL is how long a permit lives at most.
	TTL    time.Duration
	Shadow bool
	// Name and Count are as in [Spec]; the counts of all such limits are written alike.
	Name, Count uint64
}

// Permits counts what is going on now, by permits that end when they are given
// back or when their time is over. Its methods are safe for concurrent use.
//
// One lock guards all of it: permits are taken around calls that take
// milliseconds, not on every decision.
type Permits struct {
	specs atomic.Pointer[[]PermitSpec] // what is pointed to is never written
	most  int

	mu       sync.Mutex
	holds    map[holder]*holds
	live     map[string]*permit
	nextLook time.Duration // do not look for ended permits before, when full
}

// holder is whom a limit counts.
type holder struct {
	limit uint32
	key   Key
}

// permit is one or several holds with one name.
type permit struct {
	id    string
	holds []*hold
	alive int
}

// hold is one permit in the count of one limit.
type hold struct {
	permit *permit
	of     holder
	ends   time.Duration
	index  int // in the heap
}

// NewPermits returns a count for the given limits of at most most live permits.
func NewPermits(specs []PermitSpec, most int) *Permits {
	p := &Permits{most: most, holds: make(map[holder]*holds), live: make(map[string]*permit)}
	p.specs.Store(&specs)
	return p
}

// Change makes the limits what specs say, as [Limiter.Change] does. Permits that
// live keep their time, and count against the limit as it is now.
func (p *Permits) Change(specs []PermitSpec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := *p.specs.Load()
	for of, q := range p.holds {
		if before[of.limit].Count != specs[of.limit].Count {
			for _, h := range slices.Clone(*q) {
				p.drop(h)
			}
		}
	}
	p.specs.Store(&specs)
}

// Names returns the name of each limit by number.
func (p *Permits) Names() [][]uint64 {
	var names [][]uint64
	for _, s := range *p.specs.Load() {
		names = append(names, []uint64{s.Name})
	}
	return names
}

// Horizon is how long a permit of a limit may live.
func (p *Permits) Horizon(limit uint32) time.Duration { return p.spec(limit).TTL }

// spec is that of a limit.
func (p *Permits) spec(limit uint32) PermitSpec { return (*p.specs.Load())[limit] }

// Acquire takes one permit of every limit asked for, or of none, and reports
// which. It lives for ttl, or for as long as its limit lets it if that is
// shorter or ttl is zero. The id must be new, and is how Release knows the
// permit. Shadow limits never refuse, and count only what they would have
// admitted. An error is ErrFull; the asks' costs mean nothing here.
//
// The wait of a refusal is until the next permit ends by itself; it will be less
// if one is given back.
func (p *Permits) Acquire(now, ttl time.Duration, id string, asks []Ask) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.look(now, asks) {
		return false, nil
	}
	if p.full(now) {
		if p.enforced(asks) {
			return false, ErrFull
		}
		return true, nil
	}
	taken := &permit{id: id}
	for i := range asks {
		a, spec := &asks[i], p.spec(asks[i].Limit)
		if a.State.Exceeded {
			continue // a shadow limit
		}
		ends := now + spec.TTL
		if ttl > 0 {
			ends = now + min(ttl, spec.TTL)
		}
		p.hold(&hold{permit: taken, of: holder{a.Limit, a.Key}, ends: ends})
		a.State = p.state(now, a, 0)
	}
	if taken.alive > 0 {
		p.live[id] = taken
	}
	return true, nil
}

// Peek tells what Acquire would, and takes nothing.
func (p *Permits) Peek(now time.Duration, asks []Ask) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.look(now, asks)
}

// Release gives a permit back. It does nothing to one that has ended.
func (p *Permits) Release(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if taken := p.live[id]; taken != nil {
		for _, h := range taken.holds {
			if h.index >= 0 {
				p.drop(h)
			}
		}
	}
}

// Keys counts the holders of permits, by the number of the limit.
func (p *Permits) Keys(now time.Duration) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expireAll(now)
	keys := make([]int, len(*p.specs.Load()))
	for of := range p.holds {
		keys[of.limit]++
	}
	return keys
}

// Sweep forgets the permits that have ended.
func (p *Permits) Sweep(now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expireAll(now)
}

// Len is the number of permits in memory.
func (p *Permits) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.live)
}

// full reports whether there is no room for another permit. It fails closed.
func (p *Permits) full(now time.Duration) bool {
	if len(p.live) >= p.most && now >= p.nextLook {
		p.nextLook = now + time.Duration(sweepGap)
		p.expireAll(now)
	}
	return len(p.live) >= p.most
}

// enforced reports whether any of the limits can refuse.
func (p *Permits) enforced(asks []Ask) bool {
	return slices.ContainsFunc(asks, func(a Ask) bool { return !p.spec(a.Limit).Shadow })
}

func (p *Permits) look(now time.Duration, asks []Ask) bool {
	ok := true
	for i := range asks {
		asks[i].State = p.state(now, &asks[i], 1)
		ok = ok && (!asks[i].State.Exceeded || p.spec(asks[i].Limit).Shadow)
	}
	return ok
}

func (p *Permits) state(now time.Duration, a *Ask, cost uint32) State {
	of := holder{a.Limit, a.Key}
	p.expire(now, of)
	s := State{Remaining: p.spec(a.Limit).Max}
	if q := p.holds[of]; q != nil {
		// What was loaded is not held against the limit.
		s.Remaining -= min(s.Remaining, uint32(q.Len()))
		s.Reset = (*q)[0].ends - now
	}
	if cost > s.Remaining {
		s.Exceeded, s.Wait = true, s.Reset
	}
	return s
}

func (p *Permits) hold(h *hold) {
	q := p.holds[h.of]
	if q == nil {
		q = new(holds)
		p.holds[h.of] = q
	}
	heap.Push(q, h)
	h.permit.holds = append(h.permit.holds, h)
	h.permit.alive++
}

func (p *Permits) drop(h *hold) {
	q := p.holds[h.of]
	heap.Remove(q, h.index)
	if q.Len() == 0 {
		delete(p.holds, h.of)
	}
	if h.permit.alive--; h.permit.alive == 0 {
		delete(p.live, h.permit.id)
	}
}

func (p *Permits) expireAll(now time.Duration) {
	for of := range p.holds {
		p.expire(now, of)
	}
}

func (p *Permits) expire(now time.Duration, of holder) {
	for q := p.holds[of]; q != nil && q.Len() > 0 && (*q)[0].ends <= now; {
		p.drop((*q)[0])
	}
}

// holds is a heap of the permits of one holder, the first to end on top.
type holds []*hold

func (q holds) Len() int           { return len(q) }
func (q holds) Less(i, j int) bool { return q[i].ends < q[j].ends }

func (q holds) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements [heap.Interface].
func (q *holds) Push(x any) {
	h := x.(*hold)
	h.index = len(*q)
	*q = append(*q, h)
}

// Pop implements [heap.Interface]. A negative index tells that the hold has
// ended.
func (q *holds) Pop() any {
	old := *q
	h := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	h.index = -1
	return h
}

// Shadow reports whether a limit never refuses.
func (p *Permits) Shadow(limit uint32) bool { return p.spec(limit).Shadow }
