package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/identity"
)

// Local returns a connection over memory to the services that register adds,
// behind the interceptors of s, for calls made by the given role. Messages are
// copied, so neither side can change what the other holds, and values of the
// caller's context do not cross; metadata, deadline and cancellation do. The
// caller's role takes the place of a certificate: both are the same program.
//
// A unary call runs on the caller's goroutine unless s is Isolated; see decision
// 2. Trailers are carried, of unary calls with the option grpc.Trailer alone, as far
// as grpc.SetTrailer sets them; headers are not.
func (s Server) Local(caller string, client *Observer, register func(grpc.ServiceRegistrar)) grpc.ClientConnInterface {
	l := &local{
		caller: caller, isolated: s.Isolated, client: client,
		unary: chainUnary(plain(s.unary())), stream: chainStream(plain(s.stream())),
		methods: make(map[string]localMethod), streams: make(map[string]localStreamMethod),
	}
	register(l)
	return l
}

// local is both ends of a connection. It is not changed after [Server.Local].
type local struct {
	caller   string
	isolated bool
	client   *Observer
	unary    grpc.UnaryServerInterceptor
	stream   grpc.StreamServerInterceptor
	methods  map[string]localMethod // by full name
	streams  map[string]localStreamMethod
	workers  workers
}

type localMethod struct {
	impl    any
	handler grpc.MethodHandler
}

type localStreamMethod struct {
	impl any
	desc grpc.StreamDesc
}

// RegisterService implements [grpc.ServiceRegistrar].
func (l *local) RegisterService(desc *grpc.ServiceDesc, impl any) {
	for _, m := range desc.Methods {
		l.methods["/"+desc.ServiceName+"/"+m.MethodName] = localMethod{impl, m.Handler}
	}
	for _, m := range desc.Streams {
		l.streams["/"+desc.ServiceName+"/"+m.StreamName] = localStreamMethod{impl, m}
	}
}

// Invoke implements [grpc.ClientConnInterface]. The interceptors are those of
// [Dial].
func (l *local) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return Deadline(ctx, method, args, reply, nil, l.received, opts...)
}

func (l *local) received(ctx context.Context, method string, args, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
	return Receive(ctx, method, args, reply, cc, l.observed, opts...)
}

func (l *local) observed(ctx context.Context, method string, args, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
	return l.client.unaryClient(ctx, method, args, reply, cc, l.call, opts...)
}

func (l *local) call(ctx context.Context, method string, args, reply any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
	m, ok := l.methods[method]
	if !ok {
		return unimplemented(method)
	}
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	limit, told := heed(opts)
	inside, end := l.crossing(ctx), (*trailer)(nil)
	if told != nil {
		end = &trailer{method: method}
		inside = grpc.NewContextWithServerTransportStream(inside, end)
	}
	if !l.isolated {
		resp, err := m.handler(m.impl, inside, func(in any) error { return copyMessage(in, args) }, l.unary)
		end.tell(told)
		if err != nil {
			return crossed(err)
		}
		return limit.copy(reply, resp)
	}
	// The request is copied before the handler may outlive this call.
	request, err := cloneMessage(args)
	if err != nil {
		return err
	}
	type answer struct {
		resp any
		err  error
	}
	answers := make(chan answer, 1)
	l.workers.run(func() {
		resp, err := m.handler(m.impl, inside, func(in any) error { return moveMessage(in, request) }, l.unary)
		answers <- answer{resp, err}
	})
	select {
	case a := <-answers:
		end.tell(told)
		if a.err != nil {
			return crossed(a.err)
		}
		return limit.copy(reply, a.resp)
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// heed does what those of a call's options ask for that have a meaning without a
// network: grpc.Peer, by which callers learn that the call has left,
// grpc.MaxCallRecvMsgSize, and grpc.Trailer, of which it returns where to.
func heed(opts []grpc.CallOption) (limit sizeLimit, told *metadata.MD) {
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.PeerCallOption:
			*o.PeerAddr = peer.Peer{Addr: localAddr{}}
		case grpc.MaxRecvMsgSizeCallOption:
			limit = sizeLimit(o.MaxRecvMsgSize)
		case grpc.TrailerCallOption:
			told = o.TrailerAddr
		}
	}
	return limit, told
}

// trailer is what a handler sets of one. It implements [grpc.ServerTransportStream].
type trailer struct {
	method string
	mu     sync.Mutex
	md     metadata.MD
}

// Method implements [grpc.ServerTransportStream].
func (t *trailer) Method() string { return t.method }

// SetHeader implements [grpc.ServerTransportStream]; headers are not carried.
func (*trailer) SetHeader(metadata.MD) error { return nil }

// SendHeader implements [grpc.ServerTransportStream]; headers are not carried.
func (*trailer) SendHeader(metadata.MD) error { return nil }

// SetTrailer implements [grpc.ServerTransportStream].
func (t *trailer) SetTrailer(md metadata.MD) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.md = metadata.Join(t.md, md)
	return nil
}

// tell writes it to where the caller wants it, if he does.
func (t *trailer) tell(to *metadata.MD) {
	if to != nil {
		*to = t.sofar()
	}
}

func (t *trailer) sofar() metadata.MD {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.md.Copy()
}

// sizeLimit bounds the encoding of a message, in bytes; 0 is no bound.
type sizeLimit int

func (l sizeLimit) copy(out, in any) error {
	if m, ok := in.(proto.Message); ok && l > 0 {
		if n := proto.Size(m); n > int(l) {
			return status.Errorf(codes.ResourceExhausted, "received message larger than max (%d vs. %d)", n, int(l))
		}
	}
	return copyMessage(out, in)
}

// localAddr is the address of a role in the same process.
type localAddr struct{}

// Network implements [net.Addr].
func (localAddr) Network() string { return "memory" }

// String implements [net.Addr].
func (localAddr) String() string { return "memory" }

// crossing returns what the server sees of the caller's context.
func (l *local) crossing(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	return identity.With(metadata.NewIncomingContext(valueless{ctx}, md), l.caller)
}

// crossed makes of an error what the network would make of it.
func crossed(err error) error {
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.FromContextError(err).Err()
}

func unimplemented(method string) error {
	return status.Errorf(codes.Unimplemented, "unknown method %s", strings.TrimPrefix(method, "/"))
}

// valueless is a context without its values.
type valueless struct{ context.Context }

// Value implements [context.Context].
func (valueless) Value(any) any { return nil }

// AfterFunc lets package context watch the parent without a goroutine.
func (v valueless) AfterFunc(f func()) func() bool { return context.AfterFunc(v.Context, f) }

func chainUnary(in []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, last grpc.UnaryHandler) (any, error) {
		return nextUnary(in, info, last)(ctx, req)
	}
}

func nextUnary(in []grpc.UnaryServerInterceptor, info *grpc.UnaryServerInfo, last grpc.UnaryHandler) grpc.UnaryHandler {
	if len(in) == 0 {
		return last
	}
	return func(ctx context.Context, req any) (any, error) {
		return in[0](ctx, req, info, nextUnary(in[1:], info, last))
	}
}

func chainStream(in []grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, last grpc.StreamHandler) error {
		return nextStream(in, info, last)(srv, ss)
	}
}

func nextStream(in []grpc.StreamServerInterceptor, info *grpc.StreamServerInfo, last grpc.StreamHandler) grpc.StreamHandler {
	if len(in) == 0 {
		return last
	}
	return func(srv any, ss grpc.ServerStream) error {
		return in[0](srv, ss, info, nextStream(in[1:], info, last))
	}
}

// contextStream is a server's stream with another context.
type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements [grpc.ServerStream].
func (s contextStream) Context() context.Context { return s.ctx }

var errNotProto = errors.New("not a proto message")

func notProto(m any) error { return fmt.Errorf("%T: %w", m, errNotProto) }
