package limiter

import "time"

// subWindows is how many parts a window has. More would refill more smoothly
// and take more memory.
const subWindows = 10

// ringSize is one bucket more than that: at any time the window reaches back
// into the bucket that is partly expired, which counts whole.
const ringSize = subWindows + 1

// ring counts spends by sub-window. In an entry, at is the number of the newest
// sub-window, counted from the origin of time, and n the sum of all buckets.
type ring struct {
	max   uint32
	width int64
}

func newRing(s Spec) ring {
	// Rounded up: ten sub-windows must not be less than the window.
	return ring{max: s.Max, width: (int64(s.Window) + subWindows - 1) / subWindows}
}

func (a ring) left(now int64, e *entry, m *memory) uint32 {
	a.advance(now, e, m)
	return a.max - min(e.n, a.max)
}

func (a ring) reset(now int64, e *entry, m *memory) time.Duration {
	if e.n == 0 {
		return 0
	}
	return time.Duration(a.frees(e.n-min(e.n, a.max)+1, e, m) - now)
}

func (a ring) wait(now int64, cost uint32, e *entry, m *memory) time.Duration {
	if cost > a.max {
		return Never
	}
	return time.Duration(a.frees(e.n+cost-a.max, e, m) - now)
}

func (a ring) take(now int64, cost uint32, e *entry, m *memory) int64 {
	a.advance(now, e, m) // e may be new
	if e.class == none {
		e.class, e.block = buckets, m.alloc(buckets)
	}
	m.at(e)[e.at%ringSize] += cost
	e.n += cost
	return e.at
}

// slack lasts until the newest sub-window ends, which counts as a whole.
func (a ring) slack(now int64, e *entry) time.Duration {
	return time.Duration(max((e.at+1)*a.width-now, 0))
}

func (a ring) idleAt(e *entry) int64 {
	if e.n == 0 {
		return 0
	}
	return (e.at + ringSize) * a.width
}

func (a ring) undo(now int64, cost uint32, at int64, e *entry, m *memory) {
	a.advance(now, e, m)
	if e.n > 0 && at <= e.at && at > e.at-ringSize {
		b := m.at(e)
		cost = min(cost, b[at%ringSize])
		b[at%ringSize] -= cost
		e.n -= cost
	}
}

func (a ring) save(now int64, e *entry, m *memory) Counter {
	if e.n == 0 {
		return Counter{}
	}
	c := Counter{At: e.at*a.width - now, Words: make([]uint32, ringSize)}
	for i := range c.Words { // the newest first
		c.Words[i] = m.at(e)[(e.at+ringSize-int64(i))%ringSize]
	}
	return c
}

func (a ring) load(now int64, c Counter, e *entry, m *memory) error {
	if len(c.Words) == 0 {
		return nil
	}
	at, ok := shifted(c.At, now, a.width, ringSize*a.width)
	if !ok || len(c.Words) != ringSize || at < ringSize {
		return errCounter
	}
	var sum uint64
	for _, n := range c.Words {
		sum += uint64(n)
	}
	if sum > mostSpent {
		return errCounter
	}
	e.class, e.block = buckets, m.alloc(buckets)
	e.at, e.n = at, uint32(sum)
	for i, n := range c.Words {
		m.at(e)[(at-int64(i))%ringSize] = n
	}
	return nil
}

func (a ring) extend(now int64, cost uint32, e *entry, m *memory) {
	b := m.at(e)
	for over, i := e.n+cost-max(e.n, a.max), e.at+1; over > 0 && e.n > 0; i++ { // the oldest bucket comes after the newest
		n := min(over, b[i%ringSize])
		b[i%ringSize] -= n
		e.n -= n
		over -= n
	}
	a.take(now, cost, e, m)
}

func (a ring) history(now int64, e *entry, m *memory) (spends []spent) {
	if e.n == 0 {
		return nil
	}
	for i := max(e.at-subWindows, 0); i <= e.at; i++ {
		if n := m.at(e)[i%ringSize]; n > 0 {
			at := max(i*a.width, min(now, (i+1)*a.width-1))
			spends = append(spends, spent{at, at, n})
		}
	}
	return spends
}

func (a ring) recall(now int64, spends []spent, e *entry, m *memory) {
	for _, s := range within(spends, now-a.window(), mostSpent) {
		a.take(s.to, s.cost, e, m)
	}
	if e.n > 0 {
		a.advance(now, e, m)
	}
}

// window is how far back a spend may still count.
func (a ring) window() int64 { return ringSize * a.width }

// advance drops the buckets that have left the window.
func (a ring) advance(now int64, e *entry, m *memory) {
	to := now / a.width
	if e.n == 0 {
		e.at = to
		return
	}
	to = max(to, e.at) // what was loaded may be ahead
	for b := m.at(e); e.at < to && e.n > 0; {
		e.at++
		i := e.at % ringSize
		e.n -= b[i]
		b[i] = 0
	}
	e.at = to
}

// frees is when at least need will have left the window. There must be as much
// in it.
func (a ring) frees(need uint32, e *entry, m *memory) int64 {
	b := m.at(e)
	i := int(e.at % ringSize)
	for later := int64(1); ; later++ {
		if i++; i == ringSize {
			i = 0 // the oldest bucket comes after the newest
		}
		if b[i] >= need {
			return (e.at + later) * a.width
		}
		need -= b[i]
	}
}

func (a ring) join(now int64, other, e *entry, m *memory) {
	spends := later(a.history(now, other, m), a.history(now, e, m))
	if e.class != none {
		m.release(e.class, e.block)
	}
	*e = entry{key: e.key, limit: e.limit}
	a.recall(now, spends, e, m)
}
