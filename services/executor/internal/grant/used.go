package grant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
)

// Bucket is where all executors note what they have used; [bus.Bus] is it.
type Bucket interface {
	// Create sets a key that must not exist, else it returns [bus.ErrExists].
	Create(ctx context.Context, bucket bus.Bucket, key string, value []byte) (uint64, error)
}

// Used remembers decisions whose grants have been used, until they expire: in
// memory what this process has used, and in a bucket what any has. It is bounded:
// when it is full, nothing more can be used (it fails closed). It is safe for
// concurrent use.
type Used struct {
	bucket Bucket

	mu    sync.Mutex
	max   int
	until map[string]time.Time
	swept time.Time
}

// NewUsed returns a memory for at most max decisions of this process.
func NewUsed(max int, bucket Bucket) *Used {
	return &Used{bucket: bucket, max: max, until: make(map[string]time.Time)}
}

// Use uses a decision up, for all executors. It returns [ErrUsed] if it was,
// [ErrExpired] if its time is over, [ErrLong] if that is too far away, [ErrFull]
// if it cannot be remembered, and [ErrUnclaimed] if it cannot be told whether
// another executor has used it. Whatever it returns, the decision cannot be used
// here again.
func (u *Used) Use(ctx context.Context, decision string, expires time.Time) error {
	if err := u.note(decision, expires); err != nil {
		return err
	}
	_, err := u.bucket.Create(ctx, bus.Grants, decision, nil)
	switch {
	case errors.Is(err, bus.ErrExists):
		return ErrUsed
	case err != nil: // it may be written all the same
		return fmt.Errorf("%w: %w", ErrUnclaimed, err)
	}
	return nil
}

// note marks a decision as used by this process.
func (u *Used) note(decision string, expires time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	// The expiry is looked at under the lock: else a call that opened its grant
	// in time could get here after the first use of it was swept away.
	now := time.Now()
	if !now.Before(expires) {
		return ErrExpired
	}
	// The bucket forgets after some time, by another clock than ours.
	if expires.Sub(now) > bus.GrantLife+bus.ClockSkew {
		return ErrLong
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
