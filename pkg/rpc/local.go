package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/fullstorydev/grpchan"
	"github.com/fullstorydev/grpchan/inprocgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Local returns a connection over memory to the services that register adds,
// behind the interceptors of s, for calls made by the given role. Messages are
// copied, so neither side can change what the other holds, and values of the
// caller's context do not cross; metadata, deadline and cancellation do. The
// caller's role takes the place of a certificate: both are the same program.
func (s Server) Local(caller string, client *Observer, register func(grpc.ServiceRegistrar)) grpc.ClientConnInterface {
	ch := new(inprocgrpc.Channel).
		WithCloner(cloner{}).
		WithServerUnaryInterceptor(chainUnary(append([]grpc.UnaryServerInterceptor{
			func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				return next(withRole(ctx, caller), req)
			},
		}, plain(s.unary())...))).
		WithServerStreamInterceptor(chainStream(append([]grpc.StreamServerInterceptor{
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				return next(srv, contextStream{ss, withRole(ss.Context(), caller)})
			},
		}, plain(s.stream())...)))
	register(ch)
	return grpchan.InterceptClientConnStream(
		grpchan.InterceptClientConnUnary(ch, Deadline, Receive, client.unaryClient, ended),
		ReceiveStream, client.streamClient)
}

// ended tells of a call whose context has ended what a connection over the
// network tells. The channel says io.EOF when the server has left first.
func ended(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := call(ctx, method, req, reply, cc, opts...)
	if errors.Is(err, io.EOF) && ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}

// contextStream is a stream with another context.
type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s contextStream) Context() context.Context { return s.ctx }

// cloner copies messages from one side to the other. Generated messages of one
// type are merged; a dynamic message, which the executor sends to tools, goes
// through its encoding as it would over the network.
type cloner struct{}

func (cloner) Copy(out, in any) error {
	dst, ok1 := out.(proto.Message)
	src, ok2 := in.(proto.Message)
	if !ok1 || !ok2 {
		return fmt.Errorf("copy %T to %T: not proto messages", in, out)
	}
	proto.Reset(dst)
	if dst.ProtoReflect().Type() == src.ProtoReflect().Type() {
		proto.Merge(dst, src)
		return nil
	}
	b, err := proto.Marshal(src)
	if err != nil {
		return err
	}
	return proto.Unmarshal(b, dst)
}

func (cloner) Clone(in any) (any, error) {
	m, ok := in.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("clone %T: not a proto message", in)
	}
	return proto.Clone(m), nil
}

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
