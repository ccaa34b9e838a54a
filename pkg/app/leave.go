package app

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	// maxFarewell bounds how long a process that stops waits for its callers to
	// notice, besides the time that its calls in flight have.
	maxFarewell = 3 * time.Second
	// maxUnready bounds how long a process that starts takes no calls because it
	// is not ready: after that it tells callers so, and can be repaired over gRPC.
	maxUnready = 5 * time.Second
)

// A Leaver is a service that callers find by what it has announced.
type Leaver interface {
	Service
	// Leave tells callers that the service is about to stop, and returns when it
	// has told them or ctx is done. The service is called as before until they
	// have hung up, or for three seconds, and only then refuses.
	Leave(ctx context.Context)
}

// leave has services say goodbye, and serves until their callers have hung up.
func (p *process) leave(roles []Role) {
	ctx, cancel := context.WithTimeout(context.Background(), min(maxFarewell, p.cfg.Drain))
	defer cancel()
	var leaving sync.WaitGroup
	for _, r := range roles {
		l, ok := p.hosts[r.Name].service.(Leaver)
		if !ok {
			continue
		}
		leaving.Go(func() {
			l.Leave(ctx)
			if lis := p.listeners[r.Name]; lis != nil {
				lis.awaitNone(ctx)
			}
		})
	}
	leaving.Wait()
}

// counted is a listener that knows how many of its connections are open.
type counted struct {
	net.Listener

	mu   sync.Mutex
	open int
	none chan struct{} // closed while there are none
}

func newCounted(lis net.Listener) *counted {
	c := &counted{Listener: lis, none: make(chan struct{})}
	close(c.none)
	return c
}

// Accept implements [net.Listener].
func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.add(1)
	return &countedConn{Conn: conn, of: c}, nil
}

func (c *counted) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == 0 {
		c.none = make(chan struct{})
	}
	if c.open += n; c.open == 0 {
		close(c.none)
	}
}

// awaitNone returns when no connection is open, or ctx is done.
func (c *counted) awaitNone(ctx context.Context) {
	c.mu.Lock()
	none := c.none
	c.mu.Unlock()
	select {
	case <-none:
	case <-ctx.Done():
	}
}

type countedConn struct {
	net.Conn

	of   *counted
	once sync.Once
}

// Close implements [net.Conn].
func (c *countedConn) Close() error {
	c.once.Do(func() { c.of.add(-1) })
	return c.Conn.Close()
}

// awaitRole returns when a role is ready, when it has not become so in time, or
// when ctx is done.
func (p *process) awaitRole(ctx context.Context, role string) {
	waiting, cancel := context.WithTimeout(ctx, maxUnready)
	defer cancel()
	if p.health.await(waiting, role) != nil && ctx.Err() == nil {
		p.log.Warn("a role is not ready, and takes calls all the same", "role", role, "err", ready(p.health.status(ctx, role)))
	}
}
