package limiter

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"
)

// Counter is the state of one counter as nodes tell it to each other. It holds
// ages rather than times, so that no two clocks are ever compared: what is loaded
// elsewhere seems younger by the time of the journey, and counts for so much
// longer. The zero value is a counter that nothing counts in.
type Counter struct {
	// At is the counter's time less that of whoever saved it, in nanoseconds.
	At int64
	// N and Words mean what the limit's algorithm takes them for.
	N     uint32
	Words []uint32
	// Name is that of the limit as it was counted by, see [Spec]; zero means that
	// it is the limit's now.
	Name uint64
}

// MaxWords is the most words a counter has.
const MaxWords = LogMax

// Item is a counter of a limit.
type Item struct {
	Limit   uint32
	Key     Key
	Counter Counter
}

var errCounter = errors.New("no counter of this limit can be like that")

// Undo gives back what Take took under the asks' marks, as far as it still
// counts. What cannot be told apart from the spends of others stays taken: it
// never gives back more than was taken.
func (l *Limiter) Undo(now time.Duration, asks []Ask) {
	held := l.lock(int64(now), asks)
	defer l.unlock(held)
	for i := range asks {
		a := &asks[i]
		s := l.shard(a.Key)
		if e := s.find(a.Limit, a.Key); e != nil && a.Mark != 0 {
			s.limits[a.Limit].undo(s.now, a.Cost, a.Mark-1, e, &s.memory)
		}
	}
}

// Save tells the state of a counter.
func (l *Limiter) Save(now time.Duration, limit uint32, key Key) Counter {
	s := l.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = max(s.now, int64(now))
	return s.save(s.find(limit, key))
}

func (s *shard) save(e *entry) Counter {
	if e == nil {
		return Counter{}
	}
	lim := &s.limits[e.limit-1]
	lim.left(s.now, e, &s.memory) // tidies
	c := lim.save(s.now, e, &s.memory)
	c.Name = lim.spec.Name
	return c
}

// Load makes a counter what Save has told, here or elsewhere; with keep set, such
// that it holds no less, of any window, than before. It fails if the counter cannot
// be, or with ErrFull.
func (l *Limiter) Load(now time.Duration, it Item, keep bool) error {
	s := l.shard(it.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = max(s.now, int64(now))
	if it.Limit >= uint32(len(s.limits)) {
		return errCounter
	}
	e := s.find(it.Limit, it.Key)
	if e == nil {
		if it.Counter.At == 0 && it.Counter.N == 0 && len(it.Counter.Words) == 0 {
			return nil
		}
		s.room(1)
		if e = s.findOrInsert(it.Limit, it.Key); e == nil {
			return ErrFull
		}
	}
	loaded := entry{key: e.key, limit: e.limit}
	if err := s.load(&s.limits[it.Limit], it.Counter, &loaded); err != nil {
		return err
	}
	if keep {
		lim := &s.limits[it.Limit]
		lim.left(s.now, e, &s.memory) // tidies
		lim.left(s.now, &loaded, &s.memory)
		lim.join(s.now, e, &loaded, &s.memory)
	}
	s.blankOut(e)
	*e = loaded
	return nil
}

// later joins the spends of two histories of one counter, the oldest first, of which
// either may lack what the other has: what was spent later, or what was given back
// later. The last n spends of the result are as late as those of either.
func later(a, b []spent) (all []spent) {
	a, b = slices.Clone(a), slices.Clone(b)
	for len(a)+len(b) > 0 {
		i, j := len(a)-1, len(b)-1
		var s spent
		switch {
		case i < 0:
			s = b[j]
		case j < 0:
			s = a[i]
		default:
			s = spent{from: max(a[i].from, b[j].from), to: max(a[i].to, b[j].to), cost: min(a[i].cost, b[j].cost)}
		}
		all = append(all, s)
		a, b = without(a, s.cost), without(b, s.cost)
	}
	slices.Reverse(all)
	return all
}

// without drops the last spends up to a cost.
func without(spends []spent, cost uint32) []spent {
	if i := len(spends) - 1; i >= 0 {
		if spends[i].cost -= min(cost, spends[i].cost); spends[i].cost == 0 {
			spends = spends[:i]
		}
	}
	return spends
}

// load reads what was counted by the limit, or by what it was before.
func (s *shard) load(lim *limit, c Counter, e *entry) error {
	if c.Name == 0 || c.Name == lim.spec.Name {
		return lim.load(s.now, c, e, &s.memory)
	}
	for _, o := range lim.older {
		if o.name == c.Name {
			if err := o.load(s.now, c, e, &s.memory); err != nil {
				return err
			}
			s.convert(o.algorithm, lim.algorithm, e)
			return nil
		}
	}
	return errCounter
}

// Page returns up to most counters of one part that matter and that want wants,
// in an order of their own after the given one, and reports whether there are
// more. Counters that come and go meanwhile do not disturb the order.
func (l *Limiter) Page(now time.Duration, part int, want func(Key) bool, after *Item, most int) (page []Item, more bool) {
	s := &l.shards[part%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = max(s.now, int64(now))
	for i := range s.entries {
		e := &s.entries[i]
		if !s.matters(e) || !want(e.key) {
			continue
		}
		if it := (Item{Limit: uint32(e.limit) - 1, Key: e.key}); after == nil || it.compare(*after) > 0 {
			page = append(page, it)
		}
	}
	slices.SortFunc(page, Item.compare)
	if len(page) > most {
		page, more = page[:most], true
	}
	for i := range page {
		page[i].Counter = s.save(s.find(page[i].Limit, page[i].Key))
	}
	return page, more
}

func (it Item) compare(other Item) int {
	return cmp.Or(cmp.Compare(it.Key.Lo, other.Key.Lo), cmp.Compare(it.Key.Hi, other.Key.Hi), cmp.Compare(it.Limit, other.Limit))
}

// shifted is when at was on this node's clock, in units, rounded up. It is no
// more than ahead from now, and not before the clock's origin.
func shifted(at, now, unit, ahead int64) (int64, bool) {
	if at > ahead || at < -math.MaxInt64/2 {
		return 0, false
	}
	t := (at + now + unit - 1) / unit
	return t, at+now >= 0
}
