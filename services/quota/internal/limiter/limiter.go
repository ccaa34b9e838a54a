// Package limiter counts what was spent and decides whether more may be. It is
// exact: no window of time, wherever it starts, ever admits more than a sliding
// limit says.
//
// It knows limits by number and callers by a hash; rules, attributes and gRPC
// are elsewhere. It reads no clock: every call says what time it is, in
// nanoseconds since an origin of the caller's choice, so one limiter may as well
// decide for keys that another node owned before.
package limiter

import (
	"errors"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// ErrFull is the error of a spend that needs a new counter when memory for
// counters is used up by others that still matter. Nothing was taken.
var ErrFull = errors.New("no room for a new counter")

// Never is the wait of a spend that no limit of this size will ever admit.
const Never = time.Duration(math.MaxInt64)

// MaxAsks bounds the limits of one spend.
const MaxAsks = 64

// MaxLimits bounds the limits of a limiter.
const MaxLimits = 1<<16 - 1

// MinKeys is the least number of counters a limiter can be made for: each shard
// must have room for all limits of one spend.
const MinKeys = shards * MaxAsks

// shards is the number of independent locks. A set of them fits one word, which
// makes taking several in order cheap.
const shards = 64

// A Key names whom a limit counts, by a keyed 128-bit hash of the attributes.
// Two callers that hash alike share a count; with 128 good bits and a secret
// seed nobody can bring that about, and among a million keys chance does it once
// in 10^26 tries. In return a key takes the same 16 bytes whatever it stands
// for.
type Key struct{ Hi, Lo uint64 }

// An Ask is one limit of a spend, and what became of it.
type Ask struct {
	// Limit is the number of the limit: its index in the list given to New.
	Limit uint32
	Key   Key
	// Cost is what to take. It must not be zero.
	Cost uint32
	// State is the answer.
	State State
	// Mark is what a Take that took from this limit leaves for an Undo, and zero if
	// it took nothing.
	Mark int64

	entry *entry // under the shard's lock only
}

// State is one limit as a spend saw it.
type State struct {
	// Remaining is what is left, after the spend if it was made.
	Remaining uint32
	// Exceeded tells that this limit did not admit the cost.
	Exceeded bool
	// Unknown tells that this limit was not asked: another had refused.
	Unknown bool
	// Degraded tells that the limit was decided without the node that owns the count.
	Degraded bool
	// Reset is how long until more is left, zero if all is.
	Reset time.Duration
	// Wait is how long until it would admit the cost if nobody else spends meanwhile, Never if
	// the cost is greater than the limit, and zero unless Exceeded.
	Wait time.Duration
	// Slack is for how long a spend made now would change nothing by being made
	// later: it counts as if it were. Zero where it counts to the moment.
	Slack time.Duration
}

// Limiter counts. Its methods are safe for concurrent use.
type Limiter struct {
	changing sync.Mutex              // held by Change
	limits   atomic.Pointer[[]limit] // what is pointed to is never written
	wall     atomic.Int64            // the time of the day less the limiter's
	shards   [shards]shard
}

// limit is one Spec, compiled.
type limit struct {
	algorithm
	shadow, penalty bool // as in spec, beside what every spend reads
	spec            Spec
	older           []older // what it was before, the last first
}

func (l *Limiter) compile(s Spec) limit {
	return limit{algorithm: s.compile(&l.wall), shadow: s.Shadow, penalty: s.Penalty, spec: s}
}

// older is what a limit was.
type older struct {
	name uint64
	algorithm
}

// New returns a limiter for the given limits, MaxLimits at most, that keeps at most maxKeys
// counters, to within the evenness of the keys' hash; it must be MinKeys or
// more. The specs must be valid.
func New(specs []Spec, maxKeys int) *Limiter {
	l := new(Limiter)
	limits := make([]limit, len(specs))
	for i, s := range specs {
		limits[i] = l.compile(s)
	}
	l.limits.Store(&limits)
	for i := range l.shards {
		l.shards[i].limits = limits
		l.shards[i].capacity = maxKeys / shards
	}
	return l
}

// Take spends from all limits asked for, or from none, and reports which. It is
// none if any limit does not admit the cost, but for shadow limits: those never
// refuse, and take only what they would have admitted. An error is ErrFull.
//
// The order of the asks does not matter; no two may have the same limit and key.
// A refused spend leaves no trace, so asking too often never makes a wait longer,
// but for limits with a penalty: those that have refused count it.
func (l *Limiter) Take(now time.Duration, asks []Ask) (bool, error) {
	held := l.lock(int64(now), asks)
	defer l.unlock(held)
	if !l.look(asks) {
		l.extend(asks)
		l.foretell(asks)
		return false, nil
	}
	if err := l.room(asks); err != nil {
		return false, err
	}
	for i := range asks {
		// Only shadow limits may have refused, or have no room for an entry.
		if a := &asks[i]; a.entry != nil && !a.State.Exceeded {
			s := l.shard(a.Key)
			alg := s.limits[a.Limit].algorithm
			a.Mark = alg.take(s.now, a.Cost, a.entry, &s.memory) + 1
			a.State.Remaining = alg.left(s.now, a.entry, &s.memory)
		}
	}
	l.extend(asks)
	l.foretell(asks)
	return true, nil
}

// extend counts what limits with a penalty do not admit.
func (l *Limiter) extend(asks []Ask) {
	for i := range asks {
		a := &asks[i]
		if !a.State.Exceeded || a.entry == nil {
			continue
		}
		s := l.shard(a.Key)
		if lim := &s.limits[a.Limit]; lim.penalty && a.Cost <= lim.spec.most() {
			lim.extend(s.now, a.Cost, a.entry, &s.memory)
			a.State.Remaining = lim.left(s.now, a.entry, &s.memory)
		}
	}
}

// Punish counts what limits with a penalty would not admit, of asks that were
// refused elsewhere.
func (l *Limiter) Punish(now time.Duration, asks []Ask) {
	held := l.lock(int64(now), asks)
	defer l.unlock(held)
	l.look(asks)
	l.extend(asks)
	l.foretell(asks)
}

// Peek tells what Take would, and takes nothing. Its states are those before
// the spend.
func (l *Limiter) Peek(now time.Duration, asks []Ask) bool {
	held := l.lock(int64(now), asks)
	defer l.unlock(held)
	ok := l.look(asks)
	l.foretell(asks)
	return ok
}

// look finds what is left before the spend, and reports whether all limits that
// can refuse admit it.
func (l *Limiter) look(asks []Ask) bool {
	ok := true
	for i := range asks {
		a := &asks[i]
		s := l.shard(a.Key)
		lim := &s.limits[a.Limit]
		a.entry = s.find(a.Limit, a.Key)
		a.State, a.Mark = State{Remaining: lim.left(s.now, s.orBlank(a.entry), &s.memory)}, 0
		a.State.Exceeded = a.Cost > a.State.Remaining
		ok = ok && (!a.State.Exceeded || lim.shadow)
	}
	return ok
}

// foretell adds the times to the states.
func (l *Limiter) foretell(asks []Ask) {
	for i := range asks {
		a := &asks[i]
		s := l.shard(a.Key)
		alg := s.limits[a.Limit].algorithm
		e := s.orBlank(a.entry)
		a.State.Reset = alg.reset(s.now, e, &s.memory)
		a.State.Slack = alg.slack(s.now, e)
		if a.State.Exceeded {
			a.State.Wait = alg.wait(s.now, a.Cost, e, &s.memory)
		}
	}
}

// room gives every ask that will be charged an entry, or fails before any is
// charged. Where memory is full it fails closed, but a shadow limit goes
// without: it must not refuse.
func (l *Limiter) room(asks []Ask) error {
	missing := false
	for i := range asks {
		missing = missing || asks[i].entry == nil
	}
	if missing {
		// For all asks, not for the missing only: this may drop an idle entry
		// that was found a moment ago.
		for i := range asks {
			l.shard(asks[i].Key).room(len(asks))
		}
	}
	for i := range asks {
		a := &asks[i]
		if missing {
			a.entry = l.shard(a.Key).findOrInsert(a.Limit, a.Key)
		}
		if a.entry == nil && !l.shard(a.Key).limits[a.Limit].shadow {
			return ErrFull
		}
	}
	return nil
}

// shard is the one that holds a key for all limits, so that the limits of one
// rule need one lock.
func (l *Limiter) shard(k Key) *shard { return &l.shards[k.Hi%shards] }

// lock takes the locks of all shards that asks need, in the order of their
// numbers: two spends can then never wait for each other. It also tells the
// shards the time.
func (l *Limiter) lock(now int64, asks []Ask) (held uint64) {
	for i := range asks {
		held |= 1 << (asks[i].Key.Hi % shards)
	}
	for set := held; set != 0; set &= set - 1 {
		s := &l.shards[bits.TrailingZeros64(set)]
		s.mu.Lock()
		s.now = max(s.now, now)
	}
	return held
}

func (l *Limiter) unlock(held uint64) {
	for ; held != 0; held &= held - 1 {
		l.shards[bits.TrailingZeros64(held)].mu.Unlock()
	}
}

// Shards is how many parts Sweep works on.
func (l *Limiter) Shards() int { return shards }

// Sweep gives back the memory of counters in one part that no longer matter.
// Dropping those changes no answer.
func (l *Limiter) Sweep(now time.Duration, part int) {
	s := &l.shards[part%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = max(s.now, int64(now))
	s.sweep()
}

// Len is the number of counters in memory.
func (l *Limiter) Len() int {
	n := 0
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += s.used
		s.mu.Unlock()
	}
	return n
}

// shard is a part of the counters and their lock.
type shard struct {
	mu sync.Mutex
	table
	blank entry // stands for a counter that does not exist
}

// orBlank returns e, or an entry that nothing was ever counted in.
func (s *shard) orBlank(e *entry) *entry {
	if e == nil {
		s.blank = entry{}
		return &s.blank
	}
	return e
}

// Shadow reports whether a limit never refuses.
func (l *Limiter) Shadow(limit uint32) bool { return (*l.limits.Load())[limit].shadow }

// Penalty reports whether a limit counts what it refuses.
func (l *Limiter) Penalty(limit uint32) bool { return (*l.limits.Load())[limit].penalty }

// Wall is what SetWall has told.
func (l *Limiter) Wall() time.Duration { return time.Duration(l.wall.Load()) }

// Without tells what to do without the owner of a limit's counts.
func (l *Limiter) Without(limit uint32) Without { return (*l.limits.Load())[limit].spec.Without }

// Most is the greatest cost that a limit ever admits.
func (l *Limiter) Most(limit uint32) uint32 { return (*l.limits.Load())[limit].spec.most() }

// Horizon is how long a spend of a limit may count.
func (l *Limiter) Horizon(limit uint32) time.Duration {
	return (*l.limits.Load())[limit].spec.horizon()
}

// Specs returns all limits, by number.
func (l *Limiter) Specs() []Spec {
	var specs []Spec
	for _, lim := range *l.limits.Load() {
		specs = append(specs, lim.spec)
	}
	return specs
}

// SetWall tells the limiter what the time of the day is, for windows of the wall
// clock: that since 1970, less the limiter's own time. A step of the wall clock
// moves the windows that begin after it; each step may so add one window that is
// shorter, and none gets longer.
func (l *Limiter) SetWall(offset time.Duration) { l.wall.Store(int64(offset)) }
