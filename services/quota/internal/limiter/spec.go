package limiter

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
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
	// one before, or, with Clock, end when the wall clock says so; hence up to 2 L in
	// some other windows.
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
	// Clock makes the windows of Fixed end where the wall clock, in UTC, begins
	// another; see [Limiter.SetWall].
	Clock bool
	// Penalty makes a limit count what it refuses, so that who keeps trying keeps
	// being refused. A cost greater than the limit is not counted.
	Penalty bool
	// Name tells limits of other nodes apart, and how their counters are written:
	// those with one name must have one [Spec.Form].
	Name uint64
	// Without is what to do while the node that owns a count cannot be reached; the
	// limiter knows of no nodes.
	Without Without
	// Fast limits are counted by package fast, where several nodes count; the limiter
	// counts them as others.
	Fast bool
	// Count tells limits that had one number one after the other apart: what was
	// counted under another is forgotten. See [Limiter.Change].
	Count uint64
}

// Without is what to do without the owner of a count.
type Without int

// Fail, admit a fair part of what is left, or admit.
const (
	Deny Without = iota
	Share
	Allow
)

// Validate checks what callers may get wrong: everything is within what the
// arithmetic can bear.
func (s Spec) Validate() error {
	switch {
	case s.Algorithm != Sliding && s.Algorithm != GCRA && s.Algorithm != Fixed:
		return fmt.Errorf("unknown algorithm %d", s.Algorithm)
	case s.Max < 1 || s.Max > mostSpent:
		return fmt.Errorf("limit %d is not from 1 to %d", s.Max, mostSpent)
	case s.Window < time.Second || s.Window > maxRefill:
		return fmt.Errorf("window %v is not from 1s to 31 days", s.Window)
	case s.Burst > 0 && s.Algorithm != GCRA:
		return fmt.Errorf("burst %d is for gcra only", s.Burst)
	case s.Burst > 0 && !refillable(s):
		return fmt.Errorf("burst %d takes more than 31 days to refill", s.Burst)
	case s.Clock && s.Algorithm != Fixed:
		return errors.New("windows of the wall clock are for fixed only")
	case s.Clock && day%s.Window != 0:
		return fmt.Errorf("a window of the wall clock must be a part of a day, and %v is not", s.Window)
	case s.Clock && s.Penalty:
		return errors.New("a penalty cannot make a window of the wall clock longer")
	}
	return nil
}

const day = 24 * time.Hour

// Form tells how counters of the limit are written. Limits of one form can read
// each other's, whatever they admit.
func (s Spec) Form() string {
	switch a := s.compile(nil).(type) {
	case gcra:
		return fmt.Sprintf("gcra %d %d %d", a.max, a.window, a.burst)
	case fixed:
		return fmt.Sprintf("fixed %d", a.window)
	case clock:
		return fmt.Sprintf("clock %d", a.window)
	case log:
		return fmt.Sprintf("log %d", a.window)
	}
	return fmt.Sprintf("ring %d", s.Window)
}

// horizon is how long a spend may count: a window, and the part of it by which a
// ring refills late; or as long as gcra takes to refill.
func (s Spec) horizon() time.Duration {
	h := s.Window + (s.Window+subWindows-1)/subWindows
	if s.Algorithm == GCRA && s.Burst > s.Max {
		h = time.Duration(min(float64(h)*float64(s.Burst)/float64(s.Max), float64(2*maxRefill)))
	}
	return h
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
	// extend spends a cost of no more than the limit but more than is left, and
	// forgets what was spent first instead.
	extend(now int64, cost uint32, e *entry, m *memory)
	// history tells what a tidy e remembers, the oldest first.
	history(now int64, e *entry, m *memory) []spent
	// recall makes a blank e remember what another algorithm does, for no less long
	// than the spends would have counted here, and of no more than the limit: what
	// was spent first goes first.
	recall(now int64, spends []spent, e *entry, m *memory)
	// join makes e, of two tidy entries, hold no less of any window than either.
	join(now int64, other, e *entry, m *memory)
	// save tells the state of a tidy e, with times as ages.
	save(now int64, e *entry, m *memory) Counter
	// load makes a blank e what save has told, here or on another node. It rounds
	// such that nothing counts for less long than it would have there.
	load(now int64, c Counter, e *entry, m *memory) error
}

// compile picks the algorithm. The wall clock is for Clock.
func (s Spec) compile(wall *atomic.Int64) algorithm {
	switch {
	case s.Algorithm == GCRA:
		return newGCRA(s)
	case s.Clock:
		return clock{max: s.Max, window: int64(s.Window), wall: wall}
	case s.Algorithm == Fixed:
		return fixed{max: s.Max, window: int64(s.Window)}
	case s.Max <= LogMax:
		return newLog(s)
	}
	return newRing(s)
}
