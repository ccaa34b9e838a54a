package fast

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// tenths is how many parts a window has that is not one of the clock.
const tenths = 10

// limit is one that is counted here.
type limit struct {
	max     uint32
	window  int64
	width   int64 // of a part
	clock   bool
	shadow  bool
	without limiter.Without
	count   uint64
	names   []uint64 // the one it has, then those that it had before
	peak    *peak
}

// limits are all by number; nil where it is counted elsewhere.
type limits struct {
	list   []*limit
	byName map[uint64]uint32
	any    bool
}

// maxNames is how many of its earlier names a limit keeps.
const maxNames = 8

// Check says why a limit cannot be counted in fast mode. What refills as time goes
// on is no sum of what nodes have admitted; windows that begin with a spend begin
// elsewhere on each node.
func Check(s limiter.Spec) error {
	switch {
	case s.Algorithm == limiter.GCRA:
		return errors.New("gcra cannot be counted in fast mode, for each node would refill a bucket of its own; use sliding")
	case s.Algorithm == limiter.Fixed && !s.Clock:
		return errors.New("fixed windows of fast mode are those of the clock, for with spends each node would begin its own; add windows: clock")
	case s.Penalty:
		return errors.New("a penalty cannot be counted in fast mode; use strict")
	}
	return nil
}

// Form tells how counters of a limit are written, as [limiter.Spec.Form].
func Form(s limiter.Spec) string {
	if s.Clock {
		return fmt.Sprintf("fast clock %d", s.Window)
	}
	return fmt.Sprintf("fast ring %d", s.Window)
}

func newLimits(before *limits, specs []limiter.Spec) *limits {
	l := &limits{list: make([]*limit, len(specs)), byName: make(map[uint64]uint32)}
	for i, s := range specs {
		if !s.Fast {
			continue
		}
		l.any = true
		lim := &limit{
			max: s.Max, window: int64(s.Window), width: (int64(s.Window) + tenths - 1) / tenths, clock: s.Clock,
			shadow: s.Shadow, without: s.Without, count: s.Count, names: []uint64{s.Name}, peak: new(peak),
		}
		if s.Clock {
			lim.width = lim.window
		}
		if was := before.same(uint32(i), lim); was != nil {
			lim.peak = was.peak
			for _, name := range was.names {
				if !slices.Contains(lim.names, name) && len(lim.names) < maxNames {
					lim.names = append(lim.names, name)
				}
			}
		}
		l.list[i] = lim
	}
	for i, lim := range l.list {
		if lim == nil {
			continue
		}
		for age, name := range lim.names { // what a limit is goes before what another was
			if _, ok := l.byName[name]; !ok || age == 0 {
				l.byName[name] = uint32(i)
			}
		}
	}
	return l
}

func (l *limits) of(number uint32) bool { return l.at(number) != nil }

func (l *limits) at(number uint32) *limit {
	if l == nil || int(number) >= len(l.list) {
		return nil
	}
	return l.list[number]
}

// same is the limit of a number if another is the same limit, whatever it admits.
func (l *limits) same(number uint32, other *limit) *limit {
	if was := l.at(number); was != nil && other != nil && was.count == other.count {
		return was
	}
	return nil
}

// number is that of the clock's window.
func (l *limit) number(now, wall int64) int64 {
	t := now + wall
	if t < 0 {
		return (t+1)/l.window - 1
	}
	return t / l.window
}

// longest is the longest window.
func (l *limits) longest() time.Duration {
	most := int64(0)
	for _, lim := range l.list {
		if lim != nil {
			most = max(most, lim.window)
		}
	}
	return time.Duration(most)
}
