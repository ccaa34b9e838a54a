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
	return a.max - e.n
}

func (a ring) reset(now int64, e *entry, m *memory) time.Duration {
	if e.n == 0 {
		return 0
	}
	return time.Duration(a.frees(1, e, m) - now)
}

func (a ring) wait(now int64, cost uint32, e *entry, m *memory) time.Duration {
	if cost > a.max {
		return Never
	}
	return time.Duration(a.frees(e.n+cost-a.max, e, m) - now)
}

func (a ring) take(now int64, cost uint32, e *entry, m *memory) {
	a.advance(now, e, m) // e may be new
	if e.class == none {
		e.class, e.block = buckets, m.alloc(buckets)
	}
	m.at(e)[e.at%ringSize] += cost
	e.n += cost
}

func (a ring) idleAt(e *entry) int64 {
	if e.n == 0 {
		return 0
	}
	return (e.at + ringSize) * a.width
}

// advance drops the buckets that have left the window.
func (a ring) advance(now int64, e *entry, m *memory) {
	to := now / a.width
	if e.n == 0 {
		e.at = to
		return
	}
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
