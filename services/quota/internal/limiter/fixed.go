package limiter

import "time"

// fixed counts in windows that begin with a spend. In an entry, at is when the
// window began and n what was spent in it.
type fixed struct {
	max    uint32
	window int64
}

func (a fixed) left(now int64, e *entry, _ *memory) uint32 {
	if now >= a.idleAt(e) {
		e.n = 0
	}
	return a.max - min(e.n, a.max)
}

func (a fixed) reset(now int64, e *entry, _ *memory) time.Duration {
	if e.n == 0 {
		return 0
	}
	return time.Duration(a.idleAt(e) - now)
}

func (a fixed) wait(now int64, cost uint32, e *entry, m *memory) time.Duration {
	if cost > a.max {
		return Never
	}
	return a.reset(now, e, m)
}

func (a fixed) take(now int64, cost uint32, e *entry, _ *memory) int64 {
	if e.n == 0 {
		e.at = now
	}
	e.n += cost
	return e.at
}

// slack lasts until the window ends.
func (a fixed) slack(now int64, e *entry) time.Duration {
	return time.Duration(max(a.idleAt(e)-now, 0))
}

func (a fixed) idleAt(e *entry) int64 {
	if e.n == 0 {
		return 0
	}
	return e.at + a.window
}

func (a fixed) undo(now int64, cost uint32, at int64, e *entry, _ *memory) {
	if e.n > 0 && at == e.at && now < a.idleAt(e) {
		e.n -= min(cost, e.n)
	}
}

func (a fixed) save(now int64, e *entry, _ *memory) Counter {
	if e.n == 0 {
		return Counter{}
	}
	return Counter{At: e.at - now, N: e.n}
}

func (a fixed) load(now int64, c Counter, e *entry, _ *memory) error {
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

func (a fixed) extend(now int64, cost uint32, e *entry, _ *memory) {
	e.at, e.n = now, max(e.n, min(a.max, e.n+cost))
}

func (a fixed) history(now int64, e *entry, _ *memory) []spent {
	if e.n == 0 {
		return nil
	}
	return []spent{{from: e.at, to: max(e.at, now), cost: e.n}}
}

func (a fixed) recall(now int64, spends []spent, e *entry, _ *memory) {
	spends = within(spends, now-a.window, mostSpent)
	if len(spends) == 0 {
		return
	}
	e.at = spends[0].from
	if e.at <= now-a.window { // nobody knows when in it
		e.at = spends[0].to
	}
	e.n = sum(spends)
}

func (a fixed) join(_ int64, other, e *entry, _ *memory) { joinWindows(other, e) }

func (a clock) join(_ int64, other, e *entry, _ *memory) { joinWindows(other, e) }

// joinWindows keeps the later window and the greater count.
func joinWindows(other, e *entry) {
	if other.n > 0 {
		e.at = max(e.at, other.at)
	}
	e.n = max(e.n, other.n)
}
