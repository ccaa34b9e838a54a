package isolate_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/isolate"
)

func cell(edit func(*isolate.Config), changed func(bool)) *isolate.Cell {
	c := isolate.DefaultConfig()
	c.Breaker.Rest = 100 * time.Millisecond
	edit(&c)
	return isolate.NewCell(c, changed)
}

// enter makes a call that ends as it is told to.
func enter(t *testing.T, c *isolate.Cell, told ...bool) {
	t.Helper()
	seat, err := c.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, ok := range told {
		seat.Told(ok)
	}
	seat.Leave()
}

func TestQueue(t *testing.T) {
	t.Parallel()
	c := cell(func(c *isolate.Config) { c.MaxInFlight, c.QueueWait = 1, time.Minute }, nil)
	first, err := c.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan error)
	go func() {
		_, err := c.Enter(t.Context())
		entered <- err
	}()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Enter(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who is gone: %v", err)
	}
	first.Leave()
	if err := <-entered; err != nil {
		t.Errorf("one who has waited: %v", err)
	}
	none := cell(func(c *isolate.Config) { c.MaxInFlight, c.QueueWait = 1, 0 }, nil)
	if _, err := none.Enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := none.Enter(t.Context()); !errors.Is(err, isolate.ErrBusy) {
		t.Errorf("without a queue: %v", err)
	}
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	var states []bool
	c := cell(func(c *isolate.Config) { c.Breaker.MinCalls, c.Breaker.Window = 4, time.Hour }, func(resting bool) { states = append(states, resting) })
	for range 10 {
		enter(t, c) // says nothing
	}
	for range 3 {
		enter(t, c, true)
	}
	for range 2 {
		enter(t, c, false)
	}
	if c.Rest() != 0 {
		t.Fatal("two of five")
	}
	enter(t, c, true, false) // the last one counts: three of six
	if _, err := c.Enter(t.Context()); !errors.Is(err, isolate.ErrResting) || c.Rest() <= 0 || len(states) != 1 || !states[0] {
		t.Fatalf("Enter = %v, rest %v, states %v", err, c.Rest(), states)
	}
	// After its rest it is tried, by three calls at a time.
	first := await(t, c)
	second, err := c.Enter(t.Context())
	third, err2 := c.Enter(t.Context())
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Enter(t.Context()); !errors.Is(err, isolate.ErrResting) {
		t.Errorf("a fourth: %v", err)
	}
	first.Leave() // one that says nothing is no success
	second.Told(false)
	second.Leave()
	third.Leave()
	if c.Rest() <= 0 {
		t.Error("it is not left alone again")
	}
	for range 2 {
		seat := await(t, c)
		seat.Told(true)
		seat.Leave()
	}
	if len(states) == 0 || states[len(states)-1] {
		t.Errorf("states = %v", states)
	}
	for range 10 {
		enter(t, c, true)
	}
}

// await enters as soon as the service is not left alone.
func await(t *testing.T, c *isolate.Cell) *isolate.Seat {
	t.Helper()
	for {
		seat, err := c.Enter(t.Context())
		if err == nil {
			return seat
		}
		if !errors.Is(err, isolate.ErrResting) {
			t.Fatal(err)
		}
	}
}

// However many calls read streams of a service, together they read no more than is
// configured, and some at once.
func TestReads(t *testing.T) {
	t.Parallel()
	const rate, calls = 10_000, 4
	tests := []struct {
		name  string
		rate  int
		size  int // of each message
		reads int // of all calls, in a second
	}{
		{"small messages", rate, 100, rate},
		{"large ones count as several", rate, 9 * 4096, rate / 10},
		{"without a bound", 0, 100, 20 * rate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := cell(func(c *isolate.Config) { c.StreamRate = tt.rate }, nil)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				counts := make(chan int, calls)
				for range calls {
					go func() {
						n := 0
						seat, err := c.Enter(ctx)
						for size := 0; err == nil && n < 20*rate/calls; size = tt.size {
							if err = seat.Read(ctx, size); err == nil {
								n++
							}
						}
						if err != nil && !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
						counts <- n
					}()
				}
				all := 0
				for range calls {
					all += <-counts
				}
				if most := tt.reads + tt.reads/10; all > most || all < tt.reads*8/10 {
					t.Errorf("%d messages were read in a second, want about %d", all, tt.reads)
				}
			})
		})
	}
}

// A call that has to wait hears of its caller's leaving.
func TestReadsOfAnAbandonedCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := cell(func(c *isolate.Config) { c.StreamRate = 100 }, nil)
		ctx, cancel := context.WithCancel(t.Context())
		seat, err := c.Enter(ctx)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, cancel)
		for n := 0; err == nil && n < 10_000; n++ {
			err = seat.Read(ctx, 0)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Read = %v", err)
		}
	})
}

func TestNoBreaker(t *testing.T) {
	t.Parallel()
	c := cell(func(c *isolate.Config) { c.Breaker = isolate.Breaker{} }, nil)
	for range 100 {
		enter(t, c, false)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := isolate.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	bad := isolate.Config{QueueWait: -1, StreamRate: 99, Breaker: isolate.Breaker{FailureRate: 2, MinCalls: 1}}
	err := bad.Validate()
	for _, want := range []string{"max_in_flight: 0 must be", "queue_wait: -1ns must be", "stream_rate: 99 must be", "breaker.failure_rate: 2 must be", "breaker.window: 0s must be", "breaker.rest: 0s must be"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
