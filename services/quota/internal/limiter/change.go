package limiter

import "time"

// maxOlder is how many of its earlier selves a limit remembers, so that what
// other nodes still count by them can be read.
const maxOlder = 8

// most is the greatest cost that the limit ever admits.
func (s Spec) most() uint32 {
	if s.Algorithm == GCRA && s.Burst > 0 {
		return s.Burst
	}
	return s.Max
}

// Change makes the limits what specs say. There are no fewer of them than before,
// and each number stands for the same limit as before unless its Count is
// another.
//
// Counts are kept: what a key has spent of a limit before counts against the
// limit as it is now, by its new window and algorithm. A limit that is lower
// refuses until enough has left the window, one that is higher admits at once, and
// one that was lower for a while admits no more than if it had not been. But a limit
// of up to LogMax remembers no more than LogMax, and GCRA no more than its burst.
// Where an algorithm does not know exactly when something was spent, it is taken to
// be as late as it can have been.
func (l *Limiter) Change(now time.Duration, specs []Spec) {
	l.changing.Lock()
	defer l.changing.Unlock()
	before := *l.limits.Load()
	after := make([]limit, len(specs))
	for i, s := range specs {
		after[i] = l.compile(s)
		if i < len(before) && before[i].spec.Count == s.Count {
			after[i].older = before[i].olderFor(s)
		}
	}
	what := changesOf(before, after)
	for i := range l.shards {
		l.shards[i].change(int64(now), after, what)
	}
	l.limits.Store(&after)
}

// change is what becomes of the counters of a limit.
type change int

const (
	keep    change = iota // they are written as before, whatever the limit is
	rewrite               // another algorithm or window
	forget                // another limit
)

// changesOf compares limits by number; it is nil if all counters stay as they are.
func changesOf(before, after []limit) []change {
	what, any := make([]change, len(before)), false
	for i := range before {
		from, to := before[i].spec, after[i].spec
		switch {
		case from.Count != to.Count:
			what[i] = forget
		case from.Form() != to.Form():
			what[i] = rewrite
		}
		any = any || what[i] != keep
	}
	if !any {
		return nil
	}
	return what
}

// olderFor is what a limit was, once it is what next says.
func (b *limit) olderFor(next Spec) []older {
	all := b.older
	if b.spec.Name != next.Name {
		all = append([]older{{b.spec.Name, b.algorithm}}, all...)
	}
	return all[:min(len(all), maxOlder)]
}

// Names returns the names of each limit by number: its own, then those that it
// had before.
func (l *Limiter) Names() [][]uint64 {
	limits := *l.limits.Load()
	names := make([][]uint64, len(limits))
	for i := range limits {
		names[i] = []uint64{limits[i].spec.Name}
		for _, o := range limits[i].older {
			names[i] = append(names[i], o.name)
		}
	}
	return names
}

// Keys counts the counters that matter, by the number of their limit.
func (l *Limiter) Keys(now time.Duration) []int {
	keys := make([]int, len(*l.limits.Load()))
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		s.now = max(s.now, int64(now))
		for j := range s.entries {
			if e := &s.entries[j]; s.matters(e) && int(e.limit) <= len(keys) {
				keys[e.limit-1]++
			}
		}
		s.mu.Unlock()
	}
	return keys
}

func (s *shard) change(now int64, after []limit, what []change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = max(s.now, now)
	before := s.limits
	s.limits = after
	if what == nil {
		return
	}
	for i := range s.entries {
		e := &s.entries[i]
		if e.limit == 0 {
			continue
		}
		switch n := e.limit - 1; what[n] {
		case forget:
			s.blankOut(e)
		case rewrite:
			s.convert(before[n].algorithm, after[n].algorithm, e)
		}
	}
}

// blankOut makes an entry one that nothing was counted in.
func (s *shard) blankOut(e *entry) {
	if e.class != none {
		s.memory.release(e.class, e.block)
	}
	*e = entry{key: e.key, limit: e.limit}
}

// convert makes an entry of one algorithm one of another.
func (s *shard) convert(from, to algorithm, e *entry) {
	from.left(s.now, e, &s.memory) // tidies
	spends := from.history(s.now, e, &s.memory)
	s.blankOut(e)
	to.recall(s.now, spends, e, &s.memory)
}

// mostSpent is the most that a counter holds.
const mostSpent = 1_000_000_000

// spent is a cost that was spent at to at the latest. It is part of a fixed window
// that began at from, where the two differ.
type spent struct {
	from, to int64
	cost     uint32
}

// within returns what may have been spent after a time, and of that no more than
// most in all, the latest.
func within(spends []spent, after int64, most uint32) []spent {
	for i := len(spends) - 1; i >= 0; i-- {
		switch {
		case spends[i].to <= after || most == 0:
			return spends[i+1:]
		case spends[i].cost > most:
			spends[i].cost = most
		}
		most -= spends[i].cost
	}
	return spends
}

func sum(spends []spent) (n uint32) {
	for _, s := range spends {
		n += s.cost
	}
	return n
}
