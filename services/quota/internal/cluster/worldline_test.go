package cluster_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
)

// fakeLine is a line between two nodes of the world, in the fake time of testing/synctest. What has been sent may be
// answered after it was closed.
type fakeLine struct {
	*world
	from, to string
	id       string
	node     *cluster.Node
	once     sync.Once
	closed   chan struct{}
}

var errClosed = errors.New("the line is closed")

// dial opens a line to the node that has an address, which is its name.
func (p port) dial(ctx context.Context, address, id string) (cluster.Line, error) {
	l := &fakeLine{world: p.world, from: p.node, to: address, id: id, closed: make(chan struct{})}
	if err := l.cross(ctx.Done()); err != nil {
		return nil, err
	}
	p.mu.Lock()
	at := slices.IndexFunc(p.members, func(m *member) bool { return m.name == address })
	if at >= 0 {
		l.node = p.members[at].Node
	}
	p.mu.Unlock()
	p.mu.Lock()
	p.opened = append(p.opened, l)
	p.mu.Unlock()
	if l.node == nil || l.node.Over(id) == nil {
		return nil, errors.New("nobody is there")
	}
	return l, nil
}

// cross takes a message's time, and as long as either end is cut off.
func (l *fakeLine) cross(over <-chan struct{}) error {
	time.Sleep(l.delay())
	for {
		l.mu.Lock()
		cut := slices.ContainsFunc([]string{l.from, l.to}, func(n string) bool { return l.lineCut[n] || l.cut[n] && !l.spared[n] })
		healed := l.healed
		l.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-healed:
		case <-over:
			return errClosed
		}
	}
}

// Ask implements [cluster.Line].
func (l *fakeLine) Ask(q *quotav1.ClusterRequest, patience time.Duration) (*quotav1.ClusterReply, error) {
	select {
	case <-l.closed:
		return nil, bus.ErrNobody
	default:
	}
	q = proto.CloneOf(q)
	answered := make(chan *quotav1.ClusterReply, 1)
	l.work.Go(func() {
		if l.cross(l.closed) != nil {
			return
		}
		reply := l.node.Answer(context.Background(), l.id, q)
		if reply != nil {
			reply = proto.CloneOf(reply)
		}
		if l.cross(l.closed) == nil {
			answered <- reply
		}
	})
	select {
	case reply := <-answered:
		if reply == nil {
			return nil, bus.ErrNobody
		}
		return reply, nil
	case <-l.closed:
		return nil, errClosed
	case <-time.After(patience):
		l.Close() // what is on its way may arrive all the same
		return nil, errors.New("no answer in time")
	}
}

// Close implements [cluster.Line].
func (l *fakeLine) Close() { l.once.Do(func() { close(l.closed) }) }

// spare lets the lines of a node outlast a cut, or not.
func (w *world) spare(node string, spared bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spared[node] = spared
}

// setLineCut cuts the lines of a node, or not.
func (w *world) setLineCut(node string, cut bool) {
	w.mu.Lock()
	w.lineCut[node] = cut
	w.mu.Unlock()
	w.setCut(node, false) // tells those who wait
}

// breakLines ends all lines that were opened, at a moment when nothing is on its way.
func (w *world) breakLines() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.opened {
		l.Close()
	}
	w.opened = nil
}
