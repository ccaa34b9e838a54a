package series_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/series"
)

// noon is a moment that all widths of a bucket up to six hours divide.
const noon = 1770033600

func TestWidth(t *testing.T) {
	t.Parallel()
	const minute, hour, day = 60, 3600, 86400
	tests := []struct {
		name       string
		span, want int64
	}{
		{"a moment", 0, 1},
		{"just under a minute", 59, 1},
		{"a minute", 60, 2},
		{"five minutes", 5 * minute, 10},
		{"an hour", hour - 1, minute},
		{"two hours", 2*hour - 1, 2 * minute},
		{"a day", day - 1, 30 * minute},
		{"a week", 7*day - 1, 6 * hour},
		{"a month", 30*day - 1, 12 * hour},
		{"two centuries", 200 * 365 * day, 2048 * day},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s series.Series
			s.Add(noon)
			s.Add(noon + tt.span)
			if got := s.Width(); got != tt.want {
				t.Errorf("got width %d, want %d", got, tt.want)
			}
		})
	}
}

// In whatever order lines come, the buckets are the same, without gaps, bounded,
// and nothing is lost.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		span := 1 + rng.Int64N(1<<rng.IntN(33))
		moments := make([]int64, 1+rng.IntN(300))
		for i := range moments {
			moments[i] = rng.Int64N(span)
		}
		want := count(t, moments)
		rng.Shuffle(len(moments), func(i, j int) { moments[i], moments[j] = moments[j], moments[i] })
		if diff := cmp.Diff(want, count(t, moments)); diff != "" {
			t.Fatalf("another order gives other buckets:\n%s", diff)
		}
	}
}

type bucket struct {
	Start         int64
	Lines, Errors int
}

// count counts moments, those with odd seconds as errors.
func count(t *testing.T, moments []int64) []bucket {
	t.Helper()
	var s series.Series
	errors := 0
	for _, at := range moments {
		if at%2 == 1 {
			errors++
			s.AddError(at, int(at%7))
		} else {
			s.Add(at)
		}
	}
	var out []bucket
	lines := len(moments)
	for i, b := range s.Buckets() {
		if i > 0 && b.Start != out[i-1].Start+s.Width() {
			t.Fatalf("a gap between %d and %d", out[i-1].Start, b.Start)
		}
		if b.Start%s.Width() != 0 {
			t.Fatalf("bucket of width %d starts at %d", s.Width(), b.Start)
		}
		out = append(out, bucket{b.Start, b.Lines, b.Errors})
		lines -= b.Lines
		errors -= b.Errors
	}
	if len(out) > series.MaxBuckets || lines != 0 || errors != 0 {
		t.Fatalf("got %d buckets; %d lines and %d errors are missing", len(out), lines, errors)
	}
	if out[0].Lines == 0 || out[len(out)-1].Lines == 0 {
		t.Fatal("the first or the last bucket is empty")
	}
	return out
}

func TestSpikes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		errors []int // in each second, which is a bucket here
		want   []series.Spike
	}{
		{"quiet", []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil},
		{"a few errors in a quiet log are no spike", []int{0, 0, 4, 0, 0, 0, 0, 0, 0, 0}, nil},
		{"steady errors are no spike", []int{50, 52, 49, 55, 51, 50, 48, 50, 53, 50}, nil},
		{"noisy errors are no spike", []int{5, 20, 2, 17, 9, 0, 25, 14, 3, 11}, nil},
		{"twice as many as always are no spike", []int{100, 100, 100, 100, 200, 100, 100, 100, 100, 100}, nil},
		{"what chance brings is no spike", []int{2, 2, 2, 2, 7, 2, 2, 2, 2, 2}, nil},
		{
			"many in a quiet log",
			[]int{0, 0, 0, 0, 9, 0, 0, 0, 0, 0},
			[]series.Spike{{From: noon + 4, To: noon + 5, Errors: 9, Group: 4}},
		},
		{
			"neighbours are one spike",
			[]int{1, 1, 1, 1, 20, 30, 1, 1, 1, 1},
			[]series.Spike{{From: noon + 4, To: noon + 6, Errors: 50, Expected: 2, Group: 5}},
		},
		{
			"worst first, and at the ends too",
			[]int{15, 0, 0, 0, 0, 0, 0, 40, 0, 20},
			[]series.Spike{
				{From: noon + 7, To: noon + 8, Errors: 40, Group: 7},
				{From: noon + 9, To: noon + 10, Errors: 20, Group: 9},
				{From: noon, To: noon + 1, Errors: 15, Group: 0},
			},
		},
		{"too short to tell what is usual", []int{0, 50, 0, 0}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s series.Series
			for second, n := range tt.errors {
				at := noon + int64(second)
				s.Add(at)
				for range n {
					s.AddError(at, second)
				}
			}
			if diff := cmp.Diff(tt.want, s.Spikes()); diff != "" {
				t.Errorf("Spikes (-want +got):\n%s", diff)
			}
		})
	}
}
