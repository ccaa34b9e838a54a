package mcpbridge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"
)

// calls are all calls that upstreams are working on, and those among them that
// are parked.
type calls struct {
	cfg Config

	mu      sync.Mutex
	closed  bool
	flying  map[*flight]bool
	parked  map[string]*flight // by id
	each    map[string]int     // parked, by principal
	running *sync.WaitGroup
}

func newCalls(cfg Config) calls {
	return calls{cfg: cfg, flying: map[*flight]bool{}, parked: map[string]*flight{}, each: map[string]int{}, running: new(sync.WaitGroup)}
}

// newID returns what cannot be guessed.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

// launch runs a call, which goes on when the request that began it has ended. It
// reports whether it does: not when the process is stopping.
func (c *calls) launch(ctx context.Context, f *flight, work func(context.Context) outcome) bool {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	f.end = cancel
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		cancel(errStopping)
		return false
	}
	c.flying[f] = true
	c.running.Go(func() {
		defer cancel(nil)
		f.done <- work(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.flying, f)
	})
	return true
}

// park keeps a call until its next round, for as long as the configuration says.
// It reports whether there is room.
func (c *calls) park(f *flight) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.parked) >= c.cfg.MaxParked || c.each[f.principal] >= c.cfg.MaxParkedEach {
		return false
	}
	c.parked[f.id] = f
	c.each[f.principal]++
	f.expiry = time.AfterFunc(c.cfg.ParkFor, func() {
		if c.unpark(f) {
			f.end(errExpired)
		}
	})
	return true
}

// resume takes a parked call, which only its principal may, and for the same
// tool. Once taken it is not there for others. It returns nil if there is none.
func (c *calls) resume(id, principal, tool string) *flight {
	c.mu.Lock()
	f := c.parked[id]
	c.mu.Unlock()
	if f == nil || f.principal != principal || f.tool != tool || !c.unpark(f) {
		return nil
	}
	return f
}

func (c *calls) unpark(f *flight) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parked[f.id] != f {
		return false
	}
	delete(c.parked, f.id)
	if c.each[f.principal]--; c.each[f.principal] <= 0 {
		delete(c.each, f.principal)
	}
	f.expiry.Stop()
	return true
}

// close ends all calls and waits for them.
func (c *calls) close() {
	c.mu.Lock()
	c.closed = true
	for f := range c.flying {
		f.end(errStopping)
	}
	for _, f := range c.parked {
		f.expiry.Stop()
	}
	clear(c.parked)
	clear(c.each)
	c.mu.Unlock()
	c.running.Wait()
}
