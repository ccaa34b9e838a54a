package mcpbridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

// idleFor is how long a session besides the first may have nothing to do.
const idleFor = time.Minute

var (
	errDown = errors.New("the upstream is not connected")
	errBusy = errors.New("the upstream has all the calls that it may have, and as many wait")
)

// pool spreads calls over the sessions with one upstream. The first session is
// the one that the upstream is listed over; others are opened when there are
// several calls, as it is by the session that a question is known to belong to a
// call. They also keep callers apart at servers that keep state.
type pool struct {
	open func(context.Context) (*client.Session, error)
	most int

	slots   chan struct{} // a token for each call in flight
	waiting chan struct{} // and for each that waits for one

	mu      sync.Mutex
	members []*member
	opening int
	arrived chan struct{} // closed and replaced when there is a first session
	closing sync.WaitGroup
}

type member struct {
	session *client.Session
	main    bool
	busy    int
	since   time.Time // when it was last busy
}

func newPool(cfg Upstream, open func(context.Context) (*client.Session, error)) *pool {
	return &pool{
		open: open, most: cfg.Sessions,
		slots: make(chan struct{}, cfg.MaxInFlight), waiting: make(chan struct{}, cfg.MaxInFlight),
		arrived: make(chan struct{}),
	}
}

// admit makes a session the first. Its owner closes it.
func (p *pool) admit(s *client.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members = append(p.members, &member{session: s, main: true})
	close(p.arrived)
	p.arrived = make(chan struct{})
}

// next is closed when there is a first session again.
func (p *pool) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.arrived
}

// close takes all sessions out of use and closes those that were opened here.
func (p *pool) close() {
	p.mu.Lock()
	members := p.members
	p.members = nil
	p.mu.Unlock()
	for _, m := range members {
		if !m.main {
			m.session.Close()
		}
	}
	p.closing.Wait()
}

// tidy closes the sessions that have had nothing to do for long.
func (p *pool) tidy() {
	p.drop(func(m *member) bool {
		return !m.main && m.busy == 0 && (time.Since(m.since) > idleFor || m.session.Err() != nil)
	})
}

func (p *pool) drop(which func(*member) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members = slices.DeleteFunc(p.members, func(m *member) bool {
		gone := which(m)
		if gone && !m.main {
			p.closing.Go(m.session.Close)
		}
		return gone
	})
}

// slot waits for one of the calls that the upstream may have in flight. As many
// may wait; others are refused at once.
func (p *pool) slot(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	default:
		return errBusy
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pool) free() { <-p.slots }

// take returns a session for a call, and what to do when the call is over: one
// that has nothing to do, else a new one, else the one that has least to do.
func (p *pool) take(ctx context.Context) (*client.Session, func(), error) {
	p.drop(func(m *member) bool { return m.session.Err() != nil })
	p.mu.Lock()
	least := p.least()
	if least == nil {
		p.mu.Unlock()
		return nil, nil, errDown
	}
	// Of modern servers over HTTP one is enough: each question has its own call.
	more := least.busy > 0 && !least.session.Modern() && len(p.members)+p.opening < p.most
	if !more {
		defer p.mu.Unlock()
		return least.session, p.use(least), nil
	}
	p.opening++
	p.mu.Unlock()
	s, err := p.open(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opening--
	least = p.least()
	switch {
	case err != nil && least != nil: // one session more is a convenience
		return least.session, p.use(least), nil
	case err != nil:
		return nil, nil, errDown
	case least == nil: // the pool was closed meanwhile
		p.mu.Unlock()
		s.Close()
		p.mu.Lock()
		return nil, nil, errDown
	}
	m := &member{session: s, since: time.Now()}
	p.members = append(p.members, m)
	return s, p.use(m), nil
}

func (p *pool) least() *member {
	if len(p.members) == 0 {
		return nil
	}
	return slices.MinFunc(p.members, func(a, b *member) int { return a.busy - b.busy })
}

func (p *pool) use(m *member) func() {
	m.busy++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		m.busy--
		m.since = time.Now()
	}
}
