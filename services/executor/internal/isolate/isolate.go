// Package isolate keeps the trouble of one service from all others: its calls have
// a number of seats, a queue before them, and a breaker that sends callers away
// while the service fails.
package isolate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// Config says how much one service may cost.
type Config struct {
	// MaxInFlight bounds the calls to one service at a time, over its replicas.
	MaxInFlight int `yaml:"max_in_flight"`
	// QueueWait is how long a call waits for others to end when there are as many;
	// zero refuses at once.
	QueueWait time.Duration `yaml:"queue_wait"`
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
	breaker circuitbreaker.CircuitBreaker[any] // nil for none
}

// NewCell returns a cell. changed is told when the service is left alone (true),
// and when it is well again (false).
func NewCell(c Config, changed func(resting bool)) *Cell {
	cell := &Cell{wait: c.QueueWait, seats: bulkhead.New[any](uint(c.MaxInFlight))}
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
