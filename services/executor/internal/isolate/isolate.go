// Package isolate keeps the trouble of one service from all others: its calls have
// a number of seats, a queue before them, and a breaker that sends callers away
// while the service fails.
package isolate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"golang.org/x/time/rate"
)

// Config says how much one service may cost.
type Config struct {
	// MaxInFlight bounds the calls to one service at a time, over its replicas.
	MaxInFlight int `yaml:"max_in_flight"`
	// QueueWait is how long a call waits for others to end when there are as many;
	// zero refuses at once.
	QueueWait time.Duration `yaml:"queue_wait"`
	// StreamRate is how many messages of streams are read of one service in a
	// second, over all its calls; what else it sends waits there. One of more than
	// 4 KiB counts as several. Zero means no bound.
	StreamRate int `yaml:"stream_rate"`
	// Breaker says when a service is left alone.
	Breaker Breaker `yaml:"breaker"`
}

// Breaker says when a service is left alone. A call has failed when it was not
// answered in time, or with an error that the service has not written for its
// caller; what the tool says, and a caller who goes away, is no failure.
type Breaker struct {
	// FailureRate is the part of the calls, above 0 to 1, that have to fail.
	FailureRate float64 `yaml:"failure_rate"`
	// MinCalls is how many there have to be within Window. Zero means no breaker.
	MinCalls int           `yaml:"min_calls"`
	Window   time.Duration `yaml:"window"`
	// Rest is how long the service is then left alone. After that three calls are
	// let through, and all if two succeed.
	Rest time.Duration `yaml:"rest"`
}

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config {
	return Config{
		MaxInFlight: 256,
		QueueWait:   time.Second,
		StreamRate:  20_000,
		Breaker:     Breaker{FailureRate: 0.5, MinCalls: 20, Window: 10 * time.Second, Rest: 5 * time.Second},
	}
}

// Validate reports every mistake at once.
func (c Config) Validate() error {
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(c.MaxInFlight < 1 || c.MaxInFlight > 100_000, "max_in_flight: %d must be 1 to 100000", c.MaxInFlight)
	wrong(c.QueueWait < 0 || c.QueueWait > time.Minute, "queue_wait: %v must be 0s to 1m", c.QueueWait)
	wrong(c.StreamRate != 0 && (c.StreamRate < 100 || c.StreamRate > 10_000_000), "stream_rate: %d must be 0, or 100 to 10000000", c.StreamRate)
	b := c.Breaker
	wrong(b.MinCalls < 0 || b.MinCalls > 100_000, "breaker.min_calls: %d must be 0 to 100000", b.MinCalls)
	if b.MinCalls > 0 {
		wrong(!(b.FailureRate > 0 && b.FailureRate <= 1), "breaker.failure_rate: %v must be above 0, and 1 at most", b.FailureRate)
		wrong(b.Window < time.Second || b.Window > time.Hour, "breaker.window: %v must be 1s to 1h", b.Window)
		wrong(b.Rest < 100*time.Millisecond || b.Rest > time.Hour, "breaker.rest: %v must be 100ms to 1h", b.Rest)
	}
	return errors.Join(errs...)
}

// Why a call is not let in.
var (
	// ErrBusy says that too many calls are in flight.
	ErrBusy = errors.New("too many calls in flight")
	// ErrResting says that the service is left alone for a while.
	ErrResting = errors.New("the service has failed too often of late")
)

// Cell is what surrounds one service. It is safe for concurrent use.
type Cell struct {
	wait    time.Duration
	seats   bulkhead.Bulkhead[any]
	reads   *rate.Limiter
	breaker circuitbreaker.CircuitBreaker[any] // nil for none
}

// NewCell returns a cell. changed is told when the service is left alone (true),
// and when it is well again (false).
func NewCell(c Config, changed func(resting bool)) *Cell {
	cell := &Cell{wait: c.QueueWait, seats: bulkhead.New[any](uint(c.MaxInFlight)), reads: rate.NewLimiter(rate.Inf, 0)}
	if c.StreamRate > 0 {
		cell.reads = rate.NewLimiter(rate.Limit(c.StreamRate), max(c.StreamRate/20, 2*step))
	}
	if b := c.Breaker; b.MinCalls > 0 {
		cell.breaker = circuitbreaker.NewBuilder[any]().
			WithFailureRateThreshold(b.FailureRate, uint(b.MinCalls), b.Window).
			WithDelay(b.Rest).
			WithSuccessThresholdRatio(2, 3).
			OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
				if e.NewState != circuitbreaker.HalfOpenState {
					changed(e.NewState == circuitbreaker.OpenState)
				}
			}).
			Build()
	}
	return cell
}

// Seat is the right to one call. It must be given back with Leave.
type Seat struct {
	cell *Cell
	how  how
	paid int // for messages to come
}

// how a call has ended.
type how int

const (
	untold how = iota // it says nothing of the service
	well
	badly
)

// Enter waits for a seat. It returns ErrBusy, ErrResting or the context's error.
func (c *Cell) Enter(ctx context.Context) (*Seat, error) {
	if c.Rest() > 0 {
		return nil, ErrResting
	}
	switch err := c.seats.AcquirePermitWithMaxWait(ctx, c.wait); {
	case errors.Is(err, bulkhead.ErrFull):
		return nil, ErrBusy
	case err != nil:
		return nil, err
	}
	if c.breaker != nil && !c.breaker.TryAcquirePermit() {
		c.seats.ReleasePermit()
		return nil, ErrResting
	}
	return &Seat{cell: c}, nil
}

// Rest returns how long the service is left alone yet.
func (c *Cell) Rest() time.Duration {
	if c.breaker == nil {
		return 0
	}
	return c.breaker.RemainingDelay()
}

// How messages are counted and waited for.
const (
	heavy = 4 << 10 // bytes that cost as much as another message
	step  = 256     // what a call that has to wait waits for: each wait has a price too
)

// Read waits until one more message of a stream may be read. The one before it had
// size bytes. It returns the context's error, before its deadline if there is no
// hope until then.
func (s *Seat) Read(ctx context.Context, size int) error {
	if s.paid -= 1 + size/heavy; s.paid >= 0 {
		return nil
	}
	reads := s.cell.reads
	if reads.AllowN(time.Now(), -s.paid) {
		s.paid = 0
		return nil
	}
	if err := reads.WaitN(ctx, min(step-s.paid, reads.Burst())); err != nil {
		return cmp.Or(ctx.Err(), context.DeadlineExceeded)
	}
	s.paid = step
	return nil
}

// Told says whether the service did well. The last one counts.
func (s *Seat) Told(ok bool) {
	s.how = badly
	if ok {
		s.how = well
	}
}

// Leave gives the seat back. A call that says nothing of the service counts for
// nothing, but for one of those that try whether it is well again.
func (s *Seat) Leave() {
	s.cell.seats.ReleasePermit()
	switch b := s.cell.breaker; {
	case b == nil:
	case s.how == well:
		b.RecordSuccess()
	case s.how == badly, b.IsHalfOpen():
		b.RecordFailure()
	}
}
