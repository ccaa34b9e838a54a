package rpc

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// inFlight bounds the messages of a stream that were sent and not yet received,
// in each direction.
const inFlight = 4

// NewStream implements [grpc.ClientConnInterface]. The handler runs on a
// goroutine of its own until it returns; it is told when the client's context
// ends.
func (l *local) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	open := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return l.client.streamClient(ctx, desc, cc, method, l.open, opts...)
	}
	return ReceiveStream(ctx, desc, nil, method, open, opts...)
}

func (l *local) open(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	m, ok := l.streams[method]
	if !ok {
		return nil, unimplemented(method)
	}
	p := &pipe{
		requests: make(chan proto.Message, inFlight), responses: make(chan proto.Message, inFlight), ended: make(chan struct{}),
		trailer: trailer{method: method},
	}
	life, cancel := context.WithCancel(grpc.NewContextWithServerTransportStream(l.crossing(ctx), &p.trailer))
	server := &serverEnd{pipe: p, ctx: life}
	info := &grpc.StreamServerInfo{FullMethod: method, IsClientStream: m.desc.ClientStreams, IsServerStream: m.desc.ServerStreams}
	l.workers.run(func() {
		defer cancel()
		p.err = l.stream(m.impl, server, info, m.desc.Handler)
		close(p.ended)
	})
	limit, _ := heed(opts)
	return &clientEnd{pipe: p, ctx: ctx, limit: limit}, nil
}

// pipe is what the two ends of a stream share.
type pipe struct {
	requests  chan proto.Message
	responses chan proto.Message
	ended     chan struct{} // the handler has returned
	err       error         // what it returned, once ended is closed
	trailer   trailer
}

// clientEnd implements [grpc.ClientStream].
type clientEnd struct {
	*pipe
	ctx     context.Context
	limit   sizeLimit
	closing sync.Once
}

// Header implements [grpc.ClientStream]; headers are not carried.
func (*clientEnd) Header() (metadata.MD, error) { return nil, nil }

// Trailer implements [grpc.ClientStream].
func (c *clientEnd) Trailer() metadata.MD {
	select {
	case <-c.ended:
		return c.trailer.sofar()
	default:
		return nil
	}
}

// Context implements [grpc.ClientStream].
func (c *clientEnd) Context() context.Context { return c.ctx }

// CloseSend implements [grpc.ClientStream].
func (c *clientEnd) CloseSend() error {
	c.closing.Do(func() { close(c.requests) })
	return nil
}

// SendMsg implements [grpc.ClientStream]. It returns io.EOF when the handler has
// returned; RecvMsg tells why.
func (c *clientEnd) SendMsg(m any) error {
	copied, err := cloneMessage(m)
	if err != nil {
		return err
	}
	select {
	case c.requests <- copied:
		return nil
	case <-c.ended:
		return io.EOF
	case <-c.ctx.Done():
		return io.EOF
	}
}

// RecvMsg implements [grpc.ClientStream].
func (c *clientEnd) RecvMsg(m any) error {
	select {
	case r := <-c.responses:
		return c.take(m, r)
	default:
	}
	select {
	case r := <-c.responses:
		return c.take(m, r)
	case <-c.ended:
		select {
		case r := <-c.responses: // sent just before the end
			return c.take(m, r)
		default:
		}
		if c.err != nil {
			return crossed(c.err)
		}
		return io.EOF
	case <-c.ctx.Done():
		return status.FromContextError(c.ctx.Err()).Err()
	}
}

func (c *clientEnd) take(m any, r proto.Message) error {
	if c.limit > 0 {
		return c.limit.copy(m, r)
	}
	return moveMessage(m, r)
}

// serverEnd implements [grpc.ServerStream].
type serverEnd struct {
	*pipe
	ctx context.Context
}

// SetHeader implements [grpc.ServerStream]; headers are not carried.
func (*serverEnd) SetHeader(metadata.MD) error { return nil }

// SendHeader implements [grpc.ServerStream]; headers are not carried.
func (*serverEnd) SendHeader(metadata.MD) error { return nil }

// SetTrailer implements [grpc.ServerStream].
func (s *serverEnd) SetTrailer(md metadata.MD) { _ = s.trailer.SetTrailer(md) } // which never fails

// Context implements [grpc.ServerStream].
func (s *serverEnd) Context() context.Context { return s.ctx }

// SendMsg implements [grpc.ServerStream].
func (s *serverEnd) SendMsg(m any) error {
	copied, err := cloneMessage(m)
	if err != nil {
		return err
	}
	select {
	case s.responses <- copied:
		return nil
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

// RecvMsg implements [grpc.ServerStream].
func (s *serverEnd) RecvMsg(m any) error {
	select {
	case r, ok := <-s.requests:
		if !ok {
			return io.EOF
		}
		return moveMessage(m, r)
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

// workers are goroutines that wait a while for more work before they end: their
// stacks have grown to what a call needs, and growing one costs more than the
// call's own work. The zero value is ready.
type workers struct {
	once sync.Once
	idle chan func()
}

// rest is how long an idle worker waits.
const rest = 5 * time.Second

func (w *workers) run(f func()) {
	w.once.Do(func() { w.idle = make(chan func()) })
	select {
	case w.idle <- f:
	default:
		go w.work(f)
	}
}

func (w *workers) work(f func()) {
	t := time.NewTimer(rest)
	defer t.Stop()
	for {
		f()
		t.Reset(rest)
		select {
		case f = <-w.idle:
		case <-t.C:
			return
		}
	}
}
