package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// Lines are connections between two nodes that spare asks and copies the way over
// NATS, which is four processes to wake for each message instead of two. They are
// no part of what makes counts right: a node decides by its lease alone, however it
// was asked, and copies are numbered. So a line may break at any time, and as long
// as there is none the wire does as well.

// purpose is what a line is for: copies must not wait for asks, which may wait for
// copies.
type purpose int

const (
	forAsks purpose = iota
	forCopies
)

// lines are those to all other members of the view.
type lines struct {
	mu   sync.RWMutex
	all  map[lineKey]*line
	open atomic.Int64
}

type lineKey struct {
	to  string
	why purpose
}

// line is one that is opened again and again.
type line struct {
	mu     sync.Mutex // for the time of a request
	now    Line       // nil while there is none
	broken chan struct{}
}

const (
	// dialPatience is how long it may take to open a line.
	dialPatience = 2 * time.Second
	// redial is how soon what was broken is opened again at most.
	redial = 100 * time.Millisecond
	// slowRedial is how soon what cannot be opened is tried again in the end.
	slowRedial = 10 * time.Second
)

var errNoLine = errors.New("there is no line to the node")

// request asks a node over its line, or over the wire if there is none. ctx ends
// only what goes over the wire; either takes no longer than the patience.
func (n *Node) request(ctx context.Context, why purpose, to string, q *quotav1.ClusterRequest) (*quotav1.ClusterReply, error) {
	n.lines.mu.RLock()
	l := n.lines.all[lineKey{to, why}]
	n.lines.mu.RUnlock()
	if l != nil {
		if reply, err := l.ask(q, n.o.Config.Patience); !errors.Is(err, errNoLine) {
			return reply, err
		}
	}
	subject := askSubject(to)
	if why == forCopies {
		subject = copySubject(to)
	}
	ctx, cancel := context.WithTimeout(ctx, n.o.Config.Patience)
	defer cancel()
	return n.o.Wire.Ask(ctx, subject, q)
}

// ask fails with errNoLine if the request was not sent.
func (l *line) ask(q *quotav1.ClusterRequest, patience time.Duration) (*quotav1.ClusterReply, error) {
	if !l.mu.TryLock() {
		return nil, errNoLine // who waits for an answer gets it, or breaks it
	}
	defer l.mu.Unlock()
	if l.now == nil {
		return nil, errNoLine
	}
	reply, err := l.now.Ask(q, patience)
	if err != nil {
		l.now.Close()
		l.now = nil
		l.broken <- struct{}{}
	}
	if errors.Is(err, bus.ErrNobody) {
		err = errNoLine
	}
	return reply, err
}

// connect keeps lines to all other members until ctx is done.
func (n *Node) connect(ctx context.Context) {
	if n.o.Dial == nil {
		return
	}
	var g sync.WaitGroup
	defer g.Wait()
	stops := make(map[string]context.CancelFunc)
	for {
		changed := n.changes.next()
		wanted := n.addresses()
		for id, stop := range stops {
			if wanted[id] == "" {
				stop()
				delete(stops, id)
			}
		}
		for id, address := range wanted {
			if stops[id] != nil {
				continue
			}
			life, stop := context.WithCancel(ctx) // over when the member is gone, or ctx is
			stops[id] = stop
			for _, why := range []purpose{forAsks, forCopies} {
				g.Go(func() { n.keep(life, lineKey{id, why}, address) })
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			for _, stop := range stops {
				stop()
			}
			return
		}
	}
}

// addresses are those of the other members that have one.
func (n *Node) addresses() map[string]string {
	n.mu.RLock()
	others := n.view.others(n.id)
	n.mu.RUnlock()
	all := make(map[string]string, len(others))
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	for _, id := range others {
		if p := n.peers[id]; p.address != "" && !p.over() {
			all[id] = p.address
		}
	}
	return all
}

// keep keeps one line open until ctx is done.
func (n *Node) keep(ctx context.Context, key lineKey, address string) {
	l := &line{broken: make(chan struct{}, 1)}
	n.lines.mu.Lock()
	n.lines.all[key] = l
	n.lines.mu.Unlock()
	defer func() {
		n.lines.mu.Lock()
		delete(n.lines.all, key)
		n.lines.mu.Unlock()
	}()
	for wait := redial; ; {
		dialling, cancel := context.WithTimeout(ctx, dialPatience)
		opened, err := n.o.Dial(dialling, address, key.to)
		cancel()
		switch {
		case err == nil:
			l.carry(ctx, opened, &n.lines.open)
			wait = redial
		case ctx.Err() == nil && wait == redial && key.why == forAsks:
			n.o.Log.Warn("another quota node cannot be reached directly, and is asked over NATS meanwhile, which is slower", "id", key.to, "address", address, "err", err)
		}
		if !pause(ctx, wait) {
			return
		}
		if err != nil {
			wait = min(2*wait, slowRedial)
		}
	}
}

// carry lets requests go over what was opened, until it is broken or ctx is done.
func (l *line) carry(ctx context.Context, opened Line, open *atomic.Int64) {
	open.Add(1)
	defer open.Add(-1)
	l.mu.Lock()
	l.now = opened
	l.mu.Unlock()
	select {
	case <-l.broken:
		return
	case <-ctx.Done():
	}
	opened.Close() // and whoever waits, waits no longer
	l.mu.Lock()
	l.now = nil
	l.mu.Unlock()
}

// Answer answers a request to the member id that came over a line. It is nil if
// this node is not the member: then it has done nothing.
func (n *Node) Answer(ctx context.Context, id string, q *quotav1.ClusterRequest) *quotav1.ClusterReply {
	if n.Over(id) == nil {
		return nil
	}
	switch {
	case !withinBounds(q):
	case q.GetAsks() != nil:
		return n.onAsks(ctx, q)
	case q.GetCopy() != nil:
		return n.onCopy(ctx, q)
	}
	return &quotav1.ClusterReply{}
}

// Over returns what is closed when this node is the member id no more; nil if it is
// not.
func (n *Node) Over(id string) <-chan struct{} {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if id == "" || n.id != id {
		return nil
	}
	return n.over
}
