// Package sidecar makes a gRPC server in any language a tool service: it has the
// identity, announces the tools, checks requests against the rules of their proto
// and passes calls on, over a socket that nobody else can reach.
package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

// Service passes calls on to a server.
type Service struct {
	services []protoreflect.ServiceDescriptor
	conn     *grpc.ClientConn
	child    *Child
}

// maxMessage bounds what a server may answer at a time; the executor cuts results
// long before.
const maxMessage = 8 << 20

// Dial returns a connection to the server at target, a gRPC target without TLS,
// that waits until it is needed.
func Dial(target string) (*grpc.ClientConn, error) {
	return grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}),
	)
}

// Reach waits until the server can be reached. It gives up when the child ends.
func Reach(ctx context.Context, conn *grpc.ClientConn, child *Child) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-child.Ended():
			cancel()
		case <-waiting.Done():
		}
	}()
	for {
		conn.Connect()
		state := conn.GetState()
		if state == connectivity.Ready {
			return nil
		}
		if conn.WaitForStateChange(waiting, state) {
			continue
		}
		if ctx.Err() == nil {
			return child.Err()
		}
		return context.Cause(ctx)
	}
}

// New returns a service that passes the calls of services on over conn. It ends
// with the child, if there is one.
func New(env *app.Env, services []protoreflect.ServiceDescriptor, conn *grpc.ClientConn, child *Child) *Service {
	s := &Service{services: services, conn: conn, child: child}
	env.Ready("server", s.ready)
	return s
}

// ready reports whether the server can be reached.
func (s *Service) ready(context.Context) error {
	if state := s.conn.GetState(); state != connectivity.Ready {
		s.conn.Connect()
		return fmt.Errorf("the server at %s cannot be reached (%s)", s.conn.Target(), strings.ToLower(state.String()))
	}
	return nil
}

// Register implements [app.Service].
func (s *Service) Register(r grpc.ServiceRegistrar) {
	for _, d := range s.services {
		desc := &grpc.ServiceDesc{ServiceName: string(d.FullName()), HandlerType: (*any)(nil), Metadata: d.ParentFile().Path()}
		for i := range d.Methods().Len() {
			m := d.Methods().Get(i)
			desc.Streams = append(desc.Streams, grpc.StreamDesc{
				StreamName: string(m.Name()), ServerStreams: true, ClientStreams: true,
				Handler: func(_ any, stream grpc.ServerStream) error { return s.pass(m, stream) },
			})
		}
		r.RegisterService(desc, nil)
	}
}

// Run implements [app.Service].
func (s *Service) Run(ctx context.Context) error {
	select {
	case <-s.child.Ended():
		return s.child.Err()
	case <-ctx.Done():
		return nil
	}
}

// pass passes one call on. Tools are unary or stream their answer, so there is
// one request.
func (s *Service) pass(m protoreflect.MethodDescriptor, in grpc.ServerStream) error {
	request := dynamicpb.NewMessage(m.Input())
	if err := in.RecvMsg(request); err != nil {
		return err // which tells what rule is broken
	}
	ctx, cancel := context.WithCancel(outgoing(in.Context()))
	defer cancel()
	out, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+string(m.Parent().FullName())+"/"+string(m.Name()))
	if err != nil {
		return told(m, err)
	}
	if err := out.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // the answer tells why
		return told(m, err)
	}
	if err := out.CloseSend(); err != nil {
		return told(m, err)
	}
	for {
		answer := dynamicpb.NewMessage(m.Output())
		if err := out.RecvMsg(answer); err != nil {
			in.SetTrailer(toolkit.OfReport(out.Trailer()))
			if errors.Is(err, io.EOF) {
				return nil
			}
			return told(m, err)
		}
		if err := in.SendMsg(answer); err != nil {
			return err
		}
	}
}

// outgoing passes the metadata of a call on, but for what belongs to the
// connection.
func outgoing(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	md = md.Copy()
	for name := range md {
		if strings.HasPrefix(name, ":") || strings.HasPrefix(name, "grpc-") || slices.Contains([]string{"content-type", "user-agent", "te"}, name) {
			delete(md, name)
		}
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// spoken are the codes with which the author of a tool speaks to whoever calls it.
// The texts of others are written by libraries, and may tell what is nobody's
// business.
var spoken = []codes.Code{
	codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange,
	codes.PermissionDenied, codes.ResourceExhausted, codes.Aborted,
}

// told is the server's error as its caller sees it: a fault where the server has
// made it one with a google.rpc.ErrorInfo, or has used a code that says what is
// wrong with the call.
func told(m protoreflect.MethodDescriptor, err error) error {
	err = fault.Receive(err)
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	s := status.Convert(err)
	if !slices.Contains(spoken, s.Code()) || strings.Contains(s.Message(), "message larger than max") {
		return err
	}
	return &fault.Error{
		Code: s.Code(), Domain: string(m.ParentFile().Package()), Reason: code.Code(s.Code()).String(), Message: s.Message(),
	}
}
