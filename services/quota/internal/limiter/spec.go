package limiter

import (
	"fmt"
	"math/bits"
	"time"
)

// Algorithm is a way to count.
type Algorithm int

// The algorithms. A is what one key spends; L the limit, W its window.
const (
	// Sliding admits A <= L in every window (t-W, t]. Up to LogMax it keeps the
	// time of every spend, a cost of n counting as n spends, and admits all that
	// the promise allows. Above it keeps ten sub-windows, of which the one partly
	// expired still counts, and admits at least L in every 1.1 W.
	Sliding Algorithm = iota
	// GCRA admits A <= Burst + L (t-s)/W in every span (s, t], smoothly.
	GCRA
	// Fixed admits A <= L in windows that begin with the first spend after the
	// one before, hence up to 2 L in some other windows.
	Fixed
)

// LogMax is the highest sliding limit that is counted spend by spend.
const LogMax = 128

// maxRefill keeps the arithmetic of GCRA within 64 bits.
const maxRefill = 31 * 24 * time.Hour

// Spec is one limit: Max in any Window.
type Spec struct {
	Algorithm Algorithm
	Max       uint32
	Window    time.Duration
	// Burst is what GCRA admits at once; zero means Max.
	Burst uint32
	// Shadow limits count but never refuse.
	Shadow bool
}

// Validate checks what callers may get wrong: everything is within what the
// arithmetic can bear.
func (s Spec) Validate() error {
	switch {
	case s.Algorithm != Sliding && s.Algorithm != GCRA && s.Algorithm != Fixed:
		return fmt.Errorf("unknown algorithm %d", s.Algorithm)
	case s.Max < 1 || s.Max > 1_000_000_000:
		return fmt.Errorf("limit %d is not from 1 to 1000000000", s.Max)
	case s.Window < time.Second || s.Window > maxRefill:
		return fmt.Errorf("window %v is not from 1s to 31 days", s.Window)
	case s.Burst > 0 && s.Algorithm != GCRA:
		return fmt.Errorf("burst %d is for gcra only", s.Burst)
	case s.Burst > 0 && !refillable(s):
		return fmt.Errorf("burst %d takes more than 31 days to refill", s.Burst)
	}
	return nil
}

func refillable(s Spec) bool {
	hi, lo := bits.Mul64(uint64(s.Burst), uint64(s.Window))
	limHi, limLo := bits.Mul64(uint64(s.Max), uint64(maxRefill))
	return hi < limHi || hi == limHi && lo <= limLo
}

// algorithm is how one limit counts. Its methods run under the lock of the
// shard that e and m belong to, and now never goes back.
type algorithm interface {
	// left is what may be spent. It tidies e, on which the others rely; an entry
	// that is new, or blank, is tidy.
	left(now int64, e *entry, m *memory) uint32
	// take spends a cost of no more than is left, and returns what undo has to know
	// of it.
	take(now int64, cost uint32, e *entry, m *memory) (mark int64)
	// reset is how long until more is left; zero if all is.
	reset(now int64, e *entry, m *memory) time.Duration
	// wait is how long until a cost greater than what is left may be spent.
	wait(now int64, cost uint32, e *entry, m *memory) time.Duration
	// slack is for how long what was taken now counts as if it were taken later.
	slack(now int64, e *entry) time.Duration
	// idleAt is when e will be no different from a new entry.
	idleAt(e *entry) int64
	// undo gives back a cost that was taken, as far as it still counts.
	undo(now int64, cost uint32, mark int64, e *entry, m *memory)
	// save tells the state of a tidy e, with times as ages.
	save(now int64, e *entry, m *memory) Counter
	// load makes a blank e what save has told, here or on another node. It rounds
	// such that nothing counts for less long than it would have there.
	load(now int64, c Counter, e *entry, m *memory) error
}

// compile picks the algorithm.
func (s Spec) compile() algorithm {
	switch {
	case s.Algorithm == GCRA:
		return newGCRA(s)
	case s.Algorithm == Fixed:
		return fixed{max: s.Max, window: int64(s.Window)}
	case s.Max <= LogMax:
		return newLog(s)
	}
	return newRing(s)
}
