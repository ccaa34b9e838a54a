package limiter

import (
	"sync/atomic"
	"time"
)

// clock counts in the windows of the wall clock, in UTC: those of a minute begin
// with each minute. In an entry, at is when the window ends by the limiter's time,
// which no step of the wall clock changes, and n what was spent in it.
type clock struct {
	max    uint32
	window int64
	wall   *atomic.Int64
}

// end is when the window of now ends.
func (a clock) end(now int64) int64 {
	into := (now + a.wall.Load()) % a.window
	if into < 0 { // before 1970
		into += a.window
	}
	return now - into + a.window
}

func (a clock) left(now int64, e *entry, _ *memory) uint32 {
	if now >= e.at {
		e.n = 0
	}
	return a.max - min(e.n, a.max)
}

func (a clock) reset(now int64, e *entry, _ *memory) time.Duration {
	if e.n == 0 {
		return 0
	}
	return time.Duration(e.at - now)
}

func (a clock) wait(now int64, cost uint32, e *entry, m *memory) time.Duration {
	if cost > a.max {
		return Never
	}
	return a.reset(now, e, m)
}

func (a clock) take(now int64, cost uint32, e *entry, _ *memory) int64 {
	if e.n == 0 {
		e.at = a.end(now)
	}
	e.n += cost
	return e.at
}

// slack lasts until the window ends.
func (a clock) slack(now int64, e *entry) time.Duration {
	return time.Duration(max(a.idleAt(e)-now, 0))
}

func (a clock) idleAt(e *entry) int64 {
	if e.n == 0 {
		return 0
	}
	return e.at
}

func (a clock) undo(now int64, cost uint32, at int64, e *entry, _ *memory) {
	if e.n > 0 && at == e.at && now < e.at {
		e.n -= min(cost, e.n)
	}
}

func (a clock) save(now int64, e *entry, _ *memory) Counter {
	if e.n == 0 {
		return Counter{}
	}
	return Counter{At: e.at - now, N: e.n}
}

func (a clock) load(now int64, c Counter, e *entry, _ *memory) error {
	if c.N == 0 {
		return nil
	}
	at, ok := shifted(c.At, now, 1, a.window)
	if !ok || c.N > mostSpent {
		return errCounter
	}
	e.at, e.n = at, c.N
	return nil
}

// extend leaves the window as long as it is.
func (a clock) extend(_ int64, cost uint32, e *entry, _ *memory) {
	e.n = max(e.n, min(a.max, e.n+cost))
}

func (a clock) history(now int64, e *entry, _ *memory) []spent {
	if e.n == 0 {
		return nil
	}
	return []spent{{from: e.at - a.window, to: now, cost: e.n}}
}

func (a clock) recall(now int64, spends []spent, e *entry, m *memory) {
	end := a.end(now)
	if spends = within(spends, end-a.window-1, mostSpent); len(spends) > 0 {
		e.at, e.n = end, sum(spends)
	}
}
