package limiter

import (
	"math/bits"
	"time"
)

// log keeps the time of every spend that still counts, in a ring of 32-bit
// words that grows up to max, or further if the limit was higher. In an entry, at is
// the time of the newest, n how many there are, head where the oldest stands, and
// oldest its word: that suffices to refuse, and to see that nothing has expired,
// without a look at the ring, which costs as much as finding the entry.
//
// Times are counted in ticks of a power of two of nanoseconds, the finest with
// which a window spans less than 2^31 of them: 32 ns for a minute. They are
// rounded up, so a spend never stops counting too early. A word holds the low 32
// bits; the rest follows from at, since nothing kept is older than that by more
// than a window.
type log struct {
	max    uint32
	window int64
	shift  uint
}

func newLog(s Spec) log {
	return log{max: s.Max, window: int64(s.Window), shift: uint(max(0, bits.Len64(uint64(s.Window))-31))}
}

func (a log) left(now int64, e *entry, m *memory) uint32 {
	a.expire(now, e, m)
	return a.max - min(e.n, a.max)
}

func (a log) reset(now int64, e *entry, m *memory) time.Duration {
	if e.n == 0 {
		return 0
	}
	return time.Duration(a.ends(e.n-min(e.n, a.max), e, m) - now)
}

func (a log) wait(now int64, cost uint32, e *entry, m *memory) time.Duration {
	if cost > a.max {
		return Never
	}
	return time.Duration(a.ends(e.n+cost-a.max-1, e, m) - now)
}

func (a log) take(now int64, cost uint32, e *entry, m *memory) int64 {
	a.grow(e.n+cost, e, m)
	ring := m.at(e)
	e.at = max(e.at, (now+1<<a.shift-1)>>a.shift) // what was loaded may be a tick ahead
	if e.n == 0 {
		e.oldest = uint32(e.at)
	}
	for range cost {
		ring[e.slot(e.n)] = uint32(e.at)
		e.n++
	}
	return e.at
}

func (log) slack(int64, *entry) time.Duration { return 0 }

func (a log) idleAt(e *entry) int64 {
	if e.n == 0 {
		return 0
	}
	return e.at<<a.shift + a.window
}

func (a log) undo(now int64, cost uint32, at int64, e *entry, m *memory) {
	a.expire(now, e, m)
	if e.n == 0 || at > e.at || e.at-at >= 1<<32 {
		return
	}
	ring := m.at(e)
	kept := uint32(0)
	// The spends of one tick are all alike, so any cost of them may go.
	for i := range e.n {
		word := ring[e.slot(i)]
		if cost > 0 && word == uint32(at) {
			cost--
			continue
		}
		ring[e.slot(kept)] = word
		kept++
	}
	if e.n = kept; kept > 0 {
		e.at -= int64(uint32(e.at) - ring[e.slot(kept-1)])
		e.oldest = ring[e.head]
	}
}

func (a log) save(now int64, e *entry, m *memory) Counter {
	if e.n == 0 {
		return Counter{}
	}
	c := Counter{At: e.at<<a.shift - now, Words: make([]uint32, e.n)}
	ring := m.at(e)
	for i := range e.n {
		c.Words[i] = uint32(e.at) - ring[e.slot(i)]
	}
	return c
}

func (a log) load(now int64, c Counter, e *entry, m *memory) error {
	n := uint32(len(c.Words))
	if n == 0 {
		return nil
	}
	at, ok := shifted(c.At, now, 1<<a.shift, a.window)
	if !ok || n > LogMax || c.Words[n-1] != 0 {
		return errCounter
	}
	for i, age := range c.Words {
		if int64(age) > at || i > 0 && age > c.Words[i-1] || int64(age)<<a.shift > 2*a.window {
			return errCounter
		}
	}
	a.grow(n, e, m)
	e.at, e.n, e.oldest = at, n, uint32(at)-c.Words[0]
	for i, age := range c.Words {
		m.at(e)[i] = uint32(at) - age
	}
	return nil
}

func (a log) extend(now int64, cost uint32, e *entry, m *memory) {
	if over := e.n + cost - max(e.n, a.max); over < e.n {
		a.drop(over, e, m)
	} else {
		e.n = 0
	}
	a.take(now, cost, e, m)
}

func (a log) history(_ int64, e *entry, m *memory) []spent {
	spends := make([]spent, 0, e.n)
	for i := range e.n {
		at := a.ends(i, e, m) - a.window
		spends = append(spends, spent{at, at, 1})
	}
	return spends
}

func (a log) recall(now int64, spends []spent, e *entry, m *memory) {
	for _, s := range within(spends, now-a.window, LogMax) {
		a.take(s.to, s.cost, e, m)
	}
}

// ends is when the i-th oldest spend stops counting.
func (a log) ends(i uint32, e *entry, m *memory) int64 {
	word := e.oldest
	if i > 0 {
		word = m.at(e)[e.slot(i)]
	}
	return (e.at-int64(uint32(e.at)-word))<<a.shift + a.window
}

// expire drops what counts no longer.
func (a log) expire(now int64, e *entry, m *memory) {
	if now >= a.idleAt(e) {
		e.n = 0
		return
	}
	for a.ends(0, e, m) <= now {
		a.drop(1, e, m)
	}
}

// drop forgets the oldest spends, of which there must be more.
func (log) drop(n uint32, e *entry, m *memory) {
	e.head = uint8(e.slot(n))
	e.n -= n
	e.oldest = m.at(e)[e.head]
}

// slot is where the i-th oldest spend of a log stands in its ring.
func (e *entry) slot(i uint32) uint32 {
	at, size := uint32(e.head)+i, e.class.size()
	if at >= size {
		at -= size
	}
	return at
}

// grow makes room for need spends, the oldest first.
func (a log) grow(need uint32, e *entry, m *memory) {
	to := max(e.class, first)
	for to.size() < need {
		to++
	}
	if to == e.class {
		return
	}
	block := m.alloc(to)
	if e.class != none {
		from, head := m.at(e), int(e.head)
		n := copy(m.block(to, block), from[head:])
		copy(m.block(to, block)[n:], from[:head])
		m.release(e.class, e.block)
	}
	e.class, e.block, e.head = to, block, 0
}

func (a log) join(now int64, other, e *entry, m *memory) {
	spends := later(a.history(now, other, m), a.history(now, e, m))
	if e.class != none {
		m.release(e.class, e.block)
	}
	*e = entry{key: e.key, limit: e.limit}
	a.recall(now, spends, e, m)
}
