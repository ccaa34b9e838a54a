package fast

import (
	"math/bits"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// shardCount is how many independent locks there are.
const shardCount = 32

// sweepGap is how often a full shard looks for idle counters.
const sweepGap = int64(time.Second)

// shard is a part of the counters and their lock.
type shard struct {
	mu       sync.Mutex
	limits   *limits
	counters map[item]*counter
	capacity int
	dirty    []*counter
	nextLook int64
	dropped  bool // something was not kept for lack of room

	now, wall int64 // what callers have told; now never goes back
}

func (s *shard) at(now, wall time.Duration) {
	s.now, s.wall = max(s.now, int64(now)), int64(wall)
}

func (n *Node) shard(hi uint64) *shard { return &n.shards[hi%shardCount] }

// lock takes the locks of all shards that asks need, in the order of their numbers,
// and tells them the time.
func (n *Node) lock(now time.Duration, asks []limiter.Ask) (held uint64) {
	for i := range asks {
		held |= 1 << (asks[i].Key.Hi % shardCount)
	}
	wall := n.o.Wall()
	for set := held; set != 0; set &= set - 1 {
		s := &n.shards[bits.TrailingZeros64(set)]
		s.mu.Lock()
		s.at(now, wall)
	}
	return held
}

func (n *Node) unlock(held uint64) {
	for ; held != 0; held &= held - 1 {
		n.shards[bits.TrailingZeros64(held)].mu.Unlock()
	}
}

// find returns a counter as it is now, or nil.
func (s *shard) find(it item, l *limit) *counter {
	c := s.counters[it]
	if c != nil {
		c.tidy(s.now, s.wall, l)
	}
	return c
}

// room makes room for more counters if it can.
func (s *shard) room(need int) {
	if len(s.counters)+need > s.capacity && s.now >= s.nextLook {
		s.nextLook = s.now + sweepGap
		s.sweep()
	}
}

// findOrMake returns a counter, or nil if there is no room for a new one.
func (s *shard) findOrMake(it item, l *limit) *counter {
	if c := s.find(it, l); c != nil {
		return c
	}
	if len(s.counters) >= s.capacity {
		return nil
	}
	c := &counter{item: it}
	s.counters[it] = c
	c.tidy(s.now, s.wall, l)
	return c
}

// sweep forgets what counts nothing.
func (s *shard) sweep() {
	for it, c := range s.counters {
		l := s.limits.at(it.limit)
		if l != nil {
			c.tidy(s.now, s.wall, l)
		}
		if l == nil && !c.dirty || l != nil && c.idle() {
			delete(s.counters, it)
		}
	}
}

// touch notes that others are to be told of a counter, and reports whether it is
// the first of this shard.
func (s *shard) touch(c *counter) bool {
	if c.dirty {
		return false
	}
	c.dirty, c.since = true, s.now
	s.dirty = append(s.dirty, c)
	return len(s.dirty) == 1
}

// change makes the limits others than before.
func (s *shard) change(before, after *limits) {
	s.limits = after
	for it, c := range s.counters {
		from, to := before.at(it.limit), after.at(it.limit)
		switch {
		case after.same(it.limit, from) == nil: // gone, or another has its number
			delete(s.counters, it)
		case from.width != to.width || from.clock != to.clock:
			c.convert(s.now, s.wall, from, to)
			s.touch(c)
		}
	}
	kept := s.dirty[:0]
	for _, c := range s.dirty {
		if s.counters[c.item] == c {
			kept = append(kept, c)
		}
	}
	clear(s.dirty[len(kept):])
	s.dirty = kept
}

// convert makes a counter of one limit that of another. What is not known exactly
// is taken to be as late as it can have been.
func (c *counter) convert(now, wall int64, from, to *limit) {
	c.tidy(now, wall, from)
	own := c.own
	c.own = row{sequence: own.sequence}
	if to.clock {
		c.number = to.number(now, wall)
	}
	for i := range c.others {
		r := &c.others[i]
		if !from.clock && !to.clock {
			continue // a part has its own length
		}
		sum := min(r.sum, 1<<32-1)
		r.clear()
		r.at, r.width, r.length, r.sum = c.began(now, to), to.width, 1, sum
		r.n[0] = uint32(sum)
	}
	for i := own.length - 1; i >= 0; i-- {
		at := now
		if !from.clock && !to.clock {
			at = min(now, own.at-int64(i)*own.width+own.width-1)
			c.own.tidy(at, c, to)
		}
		if own.n[i] > 0 {
			c.own.add(c.began(at, to), to.width, own.n[i])
		}
	}
	c.next = 0
	c.tidy(now, wall, to)
}
