package limiter

import (
	"math/bits"
	"time"
)

// gcra is the generic cell rate algorithm: a bucket of burst that refills by max
// in a window, known by the time when it will be full again.
//
// That time is kept as whole nanoseconds and a fraction in units of 1/max, so
// that a rate whose interval is no whole number, such as 6000 in a second, drifts
// neither way. In an entry, at is the whole part and n the fraction; block and
// oldest hold what was undone.
type gcra struct {
	max, window uint64
	burst       uint32
	depth       instant // how long an empty bucket takes to be full
}

// instant is ns + frac/max nanoseconds.
type instant struct {
	ns   int64
	frac uint64
}

func newGCRA(s Spec) gcra {
	a := gcra{max: uint64(s.Max), window: uint64(s.Window), burst: s.Burst}
	if a.burst == 0 {
		a.burst = s.Max
	}
	a.depth = a.span(a.burst)
	return a
}

func (a gcra) left(now int64, e *entry, _ *memory) uint32 {
	return a.amount(a.gained(now, e))
}

func (a gcra) reset(now int64, e *entry, _ *memory) time.Duration {
	gained := a.gained(now, e)
	left := a.amount(gained)
	if left == a.burst {
		return 0
	}
	return time.Duration(ceil(a.sub(a.span(left+1), gained)))
}

func (a gcra) wait(now int64, cost uint32, e *entry, _ *memory) time.Duration {
	if cost > a.burst {
		return Never
	}
	return time.Duration(ceil(a.sub(a.span(cost), a.gained(now, e))))
}

// take returns when all will have refilled, as if nothing had ever been undone.
func (a gcra) take(now int64, cost uint32, e *entry, _ *memory) int64 {
	full := a.add(a.full(now, e), a.span(cost))
	e.at, e.n = full.ns, uint32(full.frac)
	return e.at + credited(e)
}

func (gcra) slack(int64, *entry) time.Duration { return 0 }

func (a gcra) idleAt(e *entry) int64 { return ceil(instant{e.at, uint64(e.n)}) }

// undo gives back no more than has not refilled by itself: what was taken first
// refills first.
func (a gcra) undo(now int64, cost uint32, mark int64, e *entry, _ *memory) {
	credit := a.span(cost)
	if rest := mark - credited(e) - now; rest <= credit.ns {
		credit = instant{ns: max(rest, 0)}
	}
	total := credited(e) + credit.ns + creditUnit
	if credit == (instant{}) || total >= creditUnit<<48 || e.at-credit.ns < 1 {
		return
	}
	e.block, e.oldest = uint32(total/creditUnit), uint32(total/creditUnit>>32)
	full := a.sub(instant{e.at, uint64(e.n)}, credit)
	e.at, e.n = full.ns, uint32(full.frac)
}

// creditUnit is in what the sum of all that was undone is kept, in nanoseconds:
// in places of the entry that other algorithms use.
const creditUnit = 1 << 10

// credited is that sum, no less than it is.
func credited(e *entry) int64 { return (int64(e.oldest)<<32 | int64(e.block)) * creditUnit }

func (a gcra) save(now int64, e *entry, _ *memory) Counter {
	if now >= a.idleAt(e) {
		return Counter{}
	}
	return Counter{At: e.at - now, N: e.n}
}

func (a gcra) load(now int64, c Counter, e *entry, _ *memory) error {
	at, ok := shifted(c.At, now, 1, a.depth.ns)
	if !ok || uint64(c.N) >= a.max || at == now+a.depth.ns && uint64(c.N) > a.depth.frac {
		return errCounter
	}
	e.at, e.n = at, c.N
	return nil
}

// extend makes the bucket no emptier than empty.
func (a gcra) extend(now int64, cost uint32, e *entry, m *memory) {
	a.take(now, cost, e, m)
	a.clip(now, e)
}

// clip lets the bucket be full no later than one that is empty now.
func (a gcra) clip(now int64, e *entry) {
	if e.at > now+a.depth.ns || e.at == now+a.depth.ns && uint64(e.n) > a.depth.frac {
		e.at, e.n = now+a.depth.ns, uint32(a.depth.frac)
	}
}

func (a gcra) history(now int64, e *entry, m *memory) []spent {
	if gone := a.burst - a.left(now, e, m); gone > 0 {
		return []spent{{now, now, gone}}
	}
	return nil
}

func (a gcra) recall(now int64, spends []spent, e *entry, m *memory) {
	for _, s := range within(spends, now-a.depth.ns-1, a.burst) {
		a.take(s.to, s.cost, e, m)
		a.clip(s.to, e)
	}
}

// gained is what is in the bucket, as the time it took.
func (a gcra) gained(now int64, e *entry) instant {
	return a.sub(a.add(instant{ns: now}, a.depth), a.full(now, e))
}

// full is when the bucket will be full, now at the earliest.
func (a gcra) full(now int64, e *entry) instant {
	if e.at < now {
		return instant{ns: now}
	}
	return instant{e.at, uint64(e.n)}
}

// span is how long n take to refill. It is exact, and fits: see maxRefill.
func (a gcra) span(n uint32) instant {
	hi, lo := bits.Mul64(uint64(n), a.window)
	ns, frac := bits.Div64(hi, lo, a.max)
	return instant{int64(ns), frac}
}

// amount is how much refills in a span, rounded down.
func (a gcra) amount(t instant) uint32 {
	hi, lo := bits.Mul64(uint64(t.ns), a.max)
	lo, carry := bits.Add64(lo, t.frac, 0)
	n, _ := bits.Div64(hi+carry, lo, a.window)
	return uint32(n)
}

func (a gcra) add(x, y instant) instant {
	z := instant{x.ns + y.ns, x.frac + y.frac}
	if z.frac >= a.max {
		z.ns, z.frac = z.ns+1, z.frac-a.max
	}
	return z
}

func (a gcra) sub(x, y instant) instant {
	if x.frac < y.frac {
		return instant{x.ns - y.ns - 1, x.frac + a.max - y.frac}
	}
	return instant{x.ns - y.ns, x.frac - y.frac}
}

func ceil(t instant) int64 {
	if t.frac > 0 {
		return t.ns + 1
	}
	return t.ns
}

// join keeps the one that is full later.
func (a gcra) join(now int64, other, e *entry, _ *memory) {
	if x, y := a.full(now, other), a.full(now, e); x.ns > y.ns || x.ns == y.ns && x.frac > y.frac {
		e.at, e.n = other.at, other.n
	}
}
