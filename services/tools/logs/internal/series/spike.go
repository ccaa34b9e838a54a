package series

import (
	"cmp"
	"math"
	"slices"
)

// What makes a spike: so many errors at least, so many times the usual number,
// so many deviations above it. The deviation is never taken for less than what
// pure chance would give, or a single error in a quiet log would be a spike.
const (
	minErrors  = 5
	minTimes   = 3
	deviations = 4
	minBuckets = 5 // fewer tell nothing of what is usual
)

// Spike is a span of time with unusually many errors.
type Spike struct {
	From, To int64 // seconds of Unix time; To is where it is over
	Errors   int
	Expected float64
	Group    int // of most of the errors
}

// Spikes returns the spans in which errors were unusually frequent, worst first.
// What is usual is the median of all buckets, and its spread the median
// deviation from it: unlike mean and variance they are not moved by the spikes
// themselves.
func (s *Series) Spikes() []Spike {
	if len(s.buckets) < minBuckets {
		return nil
	}
	counts := make([]float64, len(s.buckets))
	for i, b := range s.buckets {
		counts[i] = float64(b.Errors)
	}
	usual := median(counts)
	for i, c := range counts {
		counts[i] = math.Abs(c - usual)
	}
	const normal = 1.4826 // a median deviation in standard deviations
	spread := max(normal*median(counts), math.Sqrt(usual), 1)
	limit := max(minErrors, minTimes*usual, usual+deviations*spread)

	var spikes []Spike
	for i := 0; i < len(s.buckets); i++ {
		start := i
		for i < len(s.buckets) && float64(s.buckets[i].Errors) >= limit {
			i++
		}
		if i > start {
			spikes = append(spikes, s.spike(start, i, usual))
		}
	}
	slices.SortStableFunc(spikes, func(a, b Spike) int {
		return cmp.Compare(float64(b.Errors)-b.Expected, float64(a.Errors)-a.Expected)
	})
	return spikes
}

// spike sums the buckets from start up to end.
func (s *Series) spike(start, end int, usual float64) Spike {
	spike := Spike{
		From:     s.buckets[start].Start,
		To:       s.buckets[end-1].Start + s.Width(),
		Expected: usual * float64(end-start),
	}
	byGroup := make(map[int]int)
	for _, b := range s.buckets[start:end] {
		spike.Errors += b.Errors
		for group, n := range b.byGroup {
			byGroup[group] += n
		}
	}
	most := 0
	for group, n := range byGroup {
		if n > most || n == most && group < spike.Group {
			spike.Group, most = group, n
		}
	}
	return spike
}

// median sorts a copy of v, which is not empty.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}
