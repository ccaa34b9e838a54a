package limiter

// class is a size of blocks. Blocks of one class lie together in slabs.
type class uint8

const (
	none    class = iota
	first         // of the classes of a log
	last          = first + 14
	buckets class = last + 1 // of a ring
	classes       = buckets + 1
)

// sizes are in words. Those of logs grow by a third on the average, so that little is
// left over, and have what people like to write.
var sizes = [classes]uint32{first: 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 100, LogMax, buckets: ringSize}

// size is how many words a block has.
func (c class) size() uint32 { return sizes[c] }

// entryBytes is what an entry takes in a table that is filled as they are on the
// average.
const entryBytes = 67

// Bytes is about what a counter of the limit takes when the limit is used up.
func (s Spec) Bytes() uint32 {
	switch a := s.compile(nil).(type) {
	case log:
		size := first
		for size.size() < a.max {
			size++
		}
		return entryBytes + 4*size.size()
	case ring:
		return entryBytes + 4*buckets.size()
	}
	return entryBytes
}

// slabWords is how many words are taken from the heap at once.
const slabWords = 1024

// memory holds what does not fit an entry: the times of a log, the buckets of a
// ring. The zero value is empty.
type memory struct {
	slabs [classes]slab
}

// slab hands out blocks of one class.
type slab struct {
	pages [][]uint32
	used  uint32
	free  []uint32
}

// alloc returns a block, all zero.
func (m *memory) alloc(c class) uint32 {
	s := &m.slabs[c]
	if n := len(s.free); n > 0 {
		block := s.free[n-1]
		s.free = s.free[:n-1]
		clear(m.block(c, block))
		return block
	}
	if per := slabWords / c.size(); s.used == uint32(len(s.pages))*per {
		s.pages = append(s.pages, make([]uint32, per*c.size()))
	}
	s.used++
	return s.used - 1
}

// release takes a block back.
func (m *memory) release(c class, block uint32) {
	m.slabs[c].free = append(m.slabs[c].free, block)
}

// at is the block of an entry that has one.
func (m *memory) at(e *entry) []uint32 { return m.block(e.class, e.block) }

func (m *memory) block(c class, block uint32) []uint32 {
	size := c.size()
	per := slabWords / size
	start := block % per * size
	return m.slabs[c].pages[block/per][start : start+size]
}
