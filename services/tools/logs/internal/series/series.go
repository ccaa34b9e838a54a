// Package series counts lines and errors over time and finds the times in which
// errors were unusually many.
//
// It needs neither all lines in memory nor the span of time beforehand: whenever
// the span grows too long for its buckets, buckets are joined.
package series

// MaxBuckets is how many buckets a series has at most.
const MaxBuckets = 60

// Series counts. Its zero value is ready; it is not safe for concurrent use.
type Series struct {
	step    int   // index into the ladder of widths
	first   int64 // number of the first bucket, counted from 1970
	buckets []Bucket
}

// Bucket counts one span of time.
type Bucket struct {
	// Start is in seconds of Unix time.
	Start  int64
	Lines  int
	Errors int

	byGroup map[int]int // errors
}

// width returns the seconds of a bucket, from a second to a day over widths that
// people like, then doubling. Each is a multiple of the one before, so that
// buckets can be joined.
func width(step int) int64 {
	ladder := [...]int64{1, 2, 10, 30, 60, 120, 600, 1800, 3600, 7200, 21600, 43200, 86400}
	if step < len(ladder) {
		return ladder[step]
	}
	return ladder[len(ladder)-1] << (step - len(ladder) + 1)
}

// Width returns the seconds that a bucket spans.
func (s *Series) Width() int64 { return width(s.step) }

// Buckets returns the counts, oldest first and without gaps. The first and the
// last have lines.
func (s *Series) Buckets() []Bucket { return s.buckets }

// Add counts a line of that moment, in seconds of Unix time.
func (s *Series) Add(at int64) { s.bucket(at).Lines++ }

// AddError counts a line that is an error of a group.
func (s *Series) AddError(at int64, group int) {
	b := s.bucket(at)
	b.Lines++
	b.Errors++
	if b.byGroup == nil {
		b.byGroup = make(map[int]int)
	}
	b.byGroup[group]++
}

// bucket returns the bucket of a moment, after making room for it.
func (s *Series) bucket(at int64) *Bucket {
	if len(s.buckets) == 0 {
		s.first = floorDiv(at, s.Width())
		s.grow(0, 1)
	}
	for {
		i := floorDiv(at, s.Width()) - s.first
		switch n := int64(len(s.buckets)); {
		case 0 <= i && i < n:
			return &s.buckets[i]
		case i >= n && i < MaxBuckets:
			s.grow(0, int(i-n+1))
		case i < 0 && n-i <= MaxBuckets:
			s.grow(int(-i), 0)
		default:
			s.join()
		}
	}
}

// grow adds empty buckets before and after.
func (s *Series) grow(before, after int) {
	wider := make([]Bucket, before+len(s.buckets)+after)
	copy(wider[before:], s.buckets)
	s.buckets, s.first = wider, s.first-int64(before)
	for i := range s.buckets {
		s.buckets[i].Start = (s.first + int64(i)) * s.Width()
	}
}

// join goes to the next width.
func (s *Series) join() {
	old := s.buckets
	s.step++
	s.first = floorDiv(old[0].Start, s.Width())
	s.buckets = nil
	s.grow(0, int(floorDiv(old[len(old)-1].Start, s.Width())-s.first)+1)
	for _, b := range old {
		to := &s.buckets[floorDiv(b.Start, s.Width())-s.first]
		to.Lines += b.Lines
		to.Errors += b.Errors
		if to.byGroup == nil {
			to.byGroup = b.byGroup
			continue
		}
		for group, n := range b.byGroup {
			to.byGroup[group] += n
		}
	}
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
