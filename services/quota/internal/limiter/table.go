package limiter

import (
	"math/bits"
	"time"
)

// sweepGap is how often a full table looks for idle entries at most, so that a
// flood of new keys costs a bounded share of the time.
const sweepGap = int64(time.Second)

// entry is one counter: 40 bytes and no pointer, so the collector skips a table
// of millions. What at, n, oldest and head mean is the algorithm's business.
type entry struct {
	key    Key
	at     int64
	n      uint32
	block  uint32 // in the memory's slab of the class
	oldest uint32
	limit  uint16 // plus one; zero marks a free place
	head   uint8
	class  class
}

// table is a hash table with linear probing. It never deletes: entries go when
// it is rebuilt, which keeps those that matter and moves them to fresh memory.
// Every rebuild at least doubles the room or drops what is idle, hence is paid
// for by the insertions before it.
type table struct {
	limits   []limit
	capacity int
	entries  []entry
	used     int
	memory   memory
	nextLook int64 // do not rebuild a full table before this time

	// now is the latest time any caller has told. A caller that read the clock
	// before, and got the lock later, decides at this time: it never goes back.
	now int64
}

// place is where the search for a counter begins. The multiplier keeps the
// limits of one key from standing in each other's way.
func (t *table) place(limit uint32, k Key) int {
	hi, _ := bits.Mul64(k.Lo+uint64(limit)*0x9e3779b97f4a7c15, uint64(len(t.entries)))
	return int(hi)
}

// find returns the counter, or nil.
func (t *table) find(limit uint32, k Key) *entry {
	if t.used == 0 {
		return nil
	}
	for i := t.place(limit, k); ; i++ {
		if i == len(t.entries) {
			i = 0
		}
		switch e := &t.entries[i]; {
		case e.limit == 0:
			return nil
		case uint32(e.limit) == limit+1 && e.key == k:
			return e
		}
	}
}

// findOrInsert returns the counter, which it makes if need be, or nil if there
// is no room for it.
func (t *table) findOrInsert(limit uint32, k Key) *entry {
	if e := t.find(limit, k); e != nil {
		return e
	}
	if t.used >= len(t.entries)*3/4 { // which is never more than the capacity
		return nil
	}
	return t.insert(limit, k)
}

// insert adds a counter that is not there yet. There must be a free place.
func (t *table) insert(limit uint32, k Key) *entry {
	for i := t.place(limit, k); ; i++ {
		if i == len(t.entries) {
			i = 0
		}
		if e := &t.entries[i]; e.limit == 0 {
			*e = entry{key: k, limit: uint16(limit + 1)}
			t.used++
			return e
		}
	}
}

// room makes room for need more entries if it can. It invalidates pointers to
// entries.
func (t *table) room(need int) {
	full := t.used+need > t.capacity
	if !full && t.used+need <= len(t.entries)*3/4 || full && t.now < t.nextLook {
		return
	}
	if full {
		t.nextLook = t.now + sweepGap
	}
	t.rebuild(need)
}

// sweep rebuilds if that gives much back.
func (t *table) sweep() {
	if idle := t.used - t.live(); idle > 0 && idle >= t.used/4 {
		t.rebuild(0)
	}
}

// live counts the entries that still matter.
func (t *table) live() int {
	n := 0
	for i := range t.entries {
		if t.matters(&t.entries[i]) {
			n++
		}
	}
	return n
}

// matters reports whether dropping e could change an answer.
func (t *table) matters(e *entry) bool {
	return e.limit != 0 && t.now < t.limits[e.limit-1].idleAt(e)
}

// rebuild drops what does not matter, and leaves the table half full of the
// rest and of need more; three quarters full where it can grow no further.
func (t *table) rebuild(need int) {
	before := *t
	live := t.live()
	size := min((live+need)*2, t.capacity*4/3+1)
	t.entries, t.used, t.memory = nil, 0, memory{}
	if size == 0 {
		return
	}
	t.entries = make([]entry, max(size, 16))
	for i := range before.entries {
		from := &before.entries[i]
		if !before.matters(from) {
			continue
		}
		to := t.insert(uint32(from.limit-1), from.key)
		*to = *from
		if from.class != none {
			to.block = t.memory.alloc(from.class)
			copy(t.memory.at(to), before.memory.at(from))
		}
	}
}
