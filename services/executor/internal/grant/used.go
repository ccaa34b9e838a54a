package grant

import (
	"sync"
	"time"
)

// Used remembers decisions whose grants have been used, until they expire. It
// is bounded: when it is full, nothing more can be used (it fails closed). It is
// safe for concurrent use.
type Used struct {
	mu    sync.Mutex
	max   int
	until map[string]time.Time
	swept time.Time
}

// NewUsed returns an empty memory for at most max decisions.
func NewUsed(max int) *Used {
	return &Used{max: max, until: make(map[string]time.Time)}
}

// Use marks a decision as used. It returns [ErrUsed] if it was, [ErrExpired] if
// its time is over, and [ErrFull] if it cannot be remembered.
func (u *Used) Use(decision string, expires time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	// The expiry is looked at under the lock: else a call that opened its grant
	// in time could get here after the first use of it was swept away.
	now := time.Now()
	if !now.Before(expires) {
		return ErrExpired
	}
	if _, ok := u.until[decision]; ok {
		return ErrUsed
	}
	if len(u.until) >= u.max || now.Sub(u.swept) > time.Minute {
		u.sweep(now)
	}
	if len(u.until) >= u.max {
		return ErrFull
	}
	u.until[decision] = expires
	return nil
}

func (u *Used) sweep(now time.Time) {
	// At most once a second: a full memory must not cost a walk for each call.
	if now.Sub(u.swept) < time.Second {
		return
	}
	u.swept = now
	for id, expires := range u.until {
		if !now.Before(expires) {
			delete(u.until, id)
		}
	}
}
