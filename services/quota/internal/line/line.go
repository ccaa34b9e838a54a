// Package line carries requests from one quota node to another over a connection of
// their own. On it go [quotav1.ClusterRequest] one way and [quotav1.ClusterReply] the
// other, each after its length: four bytes, the highest first. Each request is
// answered before the next is sent. A stream of gRPC could do the same, but has three
// goroutines to wake at either end for each message, which takes twice as long.
package line

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// Protocol names lines where connections say what they are for (ALPN, RFC 7301).
const Protocol = "sallyport-quota-line/1"

// openWithin is how long whoever has made a connection may take to say whom it is for.
const openWithin = 10 * time.Second

// Line is the end of a line that asks.
type Line struct {
	conn net.Conn
	frames
	ended func() bool
}

var (
	errNotMeant = fmt.Errorf("%w: the node is not the member that is meant", bus.ErrNobody)
	errEnded    = fmt.Errorf("%w: the other node has hung up", bus.ErrNobody)
	errOpening  = errors.New("a line has to begin with whom it is for")
	errLate     = fmt.Errorf("nobody has said within %v whom the line is for", openWithin)
)

// Open makes a connection a line to the member id. It closes it if it fails, and when
// ctx is done before it has not.
func Open(ctx context.Context, conn net.Conn, id string) (*Line, error) {
	l := &Line{conn: conn, frames: newFrames(conn), ended: watch(conn)}
	stop := context.AfterFunc(ctx, l.Close)
	_, err := l.Ask(&quotav1.ClusterRequest{Request: &quotav1.ClusterRequest_Line{Line: &quotav1.LineOpening{To: id}}}, openWithin)
	if !stop() || err != nil {
		l.Close()
		return nil, errors.Join(err, ctx.Err())
	}
	return l, nil
}

// Ask sends a request and waits for its answer no longer than patience. It fails with
// [bus.ErrNobody] if nobody can have taken the request. A line is of no use after an
// error, and must be closed. Only one Ask may be under way.
func (l *Line) Ask(q *quotav1.ClusterRequest, patience time.Duration) (*quotav1.ClusterReply, error) {
	if err := l.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, fmt.Errorf("%w: %w", bus.ErrNobody, err)
	}
	if l.ended() {
		return nil, errEnded
	}
	if err := l.write(q); err != nil { // so it is not there as a whole, and of no effect
		return nil, fmt.Errorf("%w: %w", bus.ErrNobody, err)
	}
	reply := &quotav1.ClusterReply{}
	if err := l.read(reply); err != nil {
		return nil, err
	}
	if reply.GetNotMember() {
		return nil, errNotMeant
	}
	return reply, nil
}

// Close makes an Ask that waits fail. It may be called more than once. It says no
// farewell, for that waits up to five seconds for who does not read.
func (l *Line) Close() { _ = beneath(l.conn).Close() } // nothing is to be saved

// Node is who answers.
type Node interface {
	// Over returns what is closed when the node is the member id no more; nil if it is
	// not.
	Over(id string) <-chan struct{}
	// Answer answers a request to the member id; nil if the node is not that member, in
	// which case it has done nothing.
	Answer(ctx context.Context, id string, q *quotav1.ClusterRequest) *quotav1.ClusterReply
}

// Serve answers the requests of a connection until the other end hangs up, or ctx is
// done, which is no error. It closes the connection. When the node is not the member
// any more that the line is for, it says so: the other end is to hang up, since it
// would not know what became of what it sent just then.
func Serve(ctx context.Context, conn net.Conn, node Node) error {
	defer func() { _ = conn.Close() }() // nothing is to be saved
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	s := newFrames(conn)
	// No deadline of the connection: the server that has accepted it may just be taking
	// its own away.
	late := time.AfterFunc(openWithin, func() { _ = conn.Close() })
	defer late.Stop()
	var q quotav1.ClusterRequest
	err := s.read(&q)
	switch {
	case !late.Stop():
		return errLate
	case err != nil:
		return ended(ctx, err)
	case q.GetLine() == nil:
		return errOpening
	}
	id := q.GetLine().GetTo()
	over := node.Over(id)
	if over == nil {
		return errors.Join(s.write(notMember), errNotMeant)
	}
	if err := s.write(&quotav1.ClusterReply{}); err != nil {
		return err
	}
	answering, end := context.WithCancel(ctx)
	g.Go(func() { // whoever waits for an answer learns that there comes none
		defer end()
		select {
		case <-over:
		case <-ctx.Done():
		}
	})
	for {
		q := &quotav1.ClusterRequest{}
		if err := s.read(q); err != nil {
			return ended(ctx, err)
		}
		reply := node.Answer(answering, id, q)
		if reply == nil {
			reply = notMember
		}
		if err := s.write(reply); err != nil {
			return ended(ctx, err)
		}
	}
}

// ended is nil if a line has ended between two messages, or because it had to.
func ended(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil
	}
	return err
}

var notMember = &quotav1.ClusterReply{Reply: &quotav1.ClusterReply_NotMember{NotMember: true}}
