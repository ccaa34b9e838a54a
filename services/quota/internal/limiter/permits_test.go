package limiter_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

func TestPermits(t *testing.T) {
	t.Parallel()
	p := limiter.NewPermits([]limiter.PermitSpec{
		0: {Max: 2, TTL: time.Minute},
		1: {Max: 1, TTL: time.Hour},
		2: {Max: 1, TTL: time.Hour, Shadow: true},
	}, 100)
	acquire := func(now, ttl time.Duration, id string, limits ...uint32) (bool, []limiter.State) {
		t.Helper()
		asks := make([]limiter.Ask, len(limits))
		for i, n := range limits {
			asks[i].Limit = n
		}
		ok, err := p.Acquire(now, ttl, id, asks)
		if err != nil {
			t.Fatal(err)
		}
		states := make([]limiter.State, len(asks))
		for i := range asks {
			states[i] = asks[i].State
		}
		return ok, states
	}
	steps := []struct {
		name     string
		at, ttl  time.Duration
		id       string
		limits   []uint32
		release  string
		want     bool
		states   []limiter.State
		wantLive int
	}{{
		name: "the first", ttl: 10 * time.Second, id: "a", limits: []uint32{0, 1},
		want:     true,
		states:   []limiter.State{{Remaining: 1, Reset: 10 * time.Second}, {Reset: 10 * time.Second}},
		wantLive: 1,
	}, {
		name: "none of two if one has none left", at: time.Second, id: "b", limits: []uint32{0, 1},
		states:   []limiter.State{{Remaining: 1, Reset: 9 * time.Second}, {Reset: 9 * time.Second, Exceeded: true, Wait: 9 * time.Second}},
		wantLive: 1,
	}, {
		name: "the limit's ttl holds without another", at: time.Second, id: "c", limits: []uint32{0},
		want:     true,
		states:   []limiter.State{{Reset: 9 * time.Second}},
		wantLive: 2,
	}, {
		name: "a released permit is free at once, and only once", at: time.Second, release: "a", id: "d", limits: []uint32{0, 1},
		want:     true,
		states:   []limiter.State{{Reset: time.Minute}, {Reset: time.Hour}},
		wantLive: 2,
	}, {
		name: "no permit outlives its limit's ttl", at: time.Minute + time.Second, ttl: 2 * time.Hour, id: "e", limits: []uint32{0},
		want:     true,
		states:   []limiter.State{{Remaining: 1, Reset: time.Minute}},
		wantLive: 2, // d lives on in the other limit
	}, {
		name: "releasing what has ended changes nothing", at: time.Minute + time.Second, release: "c", id: "f", limits: []uint32{1},
		states:   []limiter.State{{Reset: 59 * time.Minute, Exceeded: true, Wait: 59 * time.Minute}},
		wantLive: 2,
	}, {
		name: "a shadow limit counts", at: time.Minute + time.Second, id: "g", limits: []uint32{2},
		want:     true,
		states:   []limiter.State{{Reset: time.Hour}},
		wantLive: 3,
	}, {
		name: "a shadow limit does not refuse", at: time.Minute + time.Second, id: "h", limits: []uint32{2},
		want:     true,
		states:   []limiter.State{{Reset: time.Hour, Exceeded: true, Wait: time.Hour}},
		wantLive: 3,
	}}
	for _, s := range steps {
		if s.release != "" {
			p.Release(s.release)
			p.Release(s.release)
		}
		ok, states := acquire(s.at, s.ttl, s.id, s.limits...)
		if ok != s.want {
			t.Errorf("%s: got %v, want %v", s.name, ok, s.want)
		}
		if diff := cmp.Diff(s.states, states); diff != "" {
			t.Errorf("%s: states (-want +got):\n%s", s.name, diff)
		}
		if got := p.Len(); got != s.wantLive {
			t.Errorf("%s: got %d live permits, want %d", s.name, got, s.wantLive)
		}
	}
	if p.Sweep(24 * time.Hour); p.Len() != 0 {
		t.Errorf("after all have ended: got %d permits, want 0", p.Len())
	}
}

func TestPermitsAreBounded(t *testing.T) {
	t.Parallel()
	p := limiter.NewPermits([]limiter.PermitSpec{
		{Max: 10, TTL: time.Minute},
		{Max: 10, TTL: time.Minute, Shadow: true},
	}, 2)
	for _, id := range []string{"a", "b"} {
		if ok, err := p.Acquire(0, 0, id, make([]limiter.Ask, 1)); !ok || err != nil {
			t.Fatalf("Acquire: got %v, %v", ok, err)
		}
	}
	if ok, err := p.Acquire(0, 0, "c", make([]limiter.Ask, 1)); ok || !errors.Is(err, limiter.ErrFull) {
		t.Errorf("one more: got %v, %v, want ErrFull", ok, err)
	}
	if ok, err := p.Acquire(0, 0, "c", []limiter.Ask{{Limit: 1}}); !ok || err != nil {
		t.Errorf("one more of a shadow limit: got %v, %v, want it allowed", ok, err)
	}
	if ok, err := p.Acquire(time.Minute, 0, "d", make([]limiter.Ask, 1)); !ok || err != nil {
		t.Errorf("when the others have ended: got %v, %v, want it allowed", ok, err)
	}
}

func TestPermitsUnderConcurrency(t *testing.T) {
	t.Parallel()
	p := limiter.NewPermits([]limiter.PermitSpec{{Max: 3, TTL: time.Hour}}, 1000)
	var running, most atomic.Int32
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			for i := range 100 {
				id := fmt.Sprintf("%d-%d", n, i)
				if ok, err := p.Acquire(0, 0, id, make([]limiter.Ask, 1)); !ok || err != nil {
					continue
				}
				now := running.Add(1)
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				running.Add(-1)
				p.Release(id)
			}
		})
	}
	wg.Wait()
	if got := most.Load(); got > 3 {
		t.Errorf("at a time: got %d permits, want at most 3", got)
	}
	if got := p.Len(); got != 0 {
		t.Errorf("after all were released: got %d permits, want 0", got)
	}
}
