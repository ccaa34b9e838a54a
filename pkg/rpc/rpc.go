// Package rpc builds the gRPC servers and connections of the system, so that
// every service has the same interceptors in the same order, whether it is
// reached over memory or over mTLS. It knows no service.
package rpc

import (
	"log/slog"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// MaxMessage bounds a message in either direction, in bytes. The largest thing
// that travels is a tool's result.
const MaxMessage = 16 << 20

// streamWorkers is how many goroutines of a server handle one call after the other: a
// new one for each call would have to grow its stack every time, which is a third
// of the CPU of a small call. When all are busy, calls do get goroutines of their
// own.
const streamWorkers = 64

// Server says how a role's services are guarded. The zero value lets nobody in.
type Server struct {
	// Log receives every error that is sealed; nil discards.
	Log *slog.Logger
	// Allow lists, for each full service name, the roles that may call it. The
	// role "*" stands for any peer that proved to be one of ours. A service that
	// is not listed can be called by nobody.
	Allow map[string][]string
	// Isolated runs each call over memory on a goroutine of its own, so that a
	// handler that does not heed its context cannot hold its caller. For code
	// that is not ours: tools.
	Isolated bool
	// Observe makes a span and a measurement of each call; nil observes nothing.
	Observe *Observer
}

// unary is the chain, outermost first. Observe sees what leaves the process, Seal every error, panics included;
// Validate runs last, so that only callers that were let in cost us the
// evaluation of rules. stream below is its twin; a test compares them.
func (s Server) unary() []named[grpc.UnaryServerInterceptor] {
	return []named[grpc.UnaryServerInterceptor]{
		{"observe", s.Observe.unaryServer},
		{"seal", Seal(s.log())},
		{"recover", Recover},
		{"allow", Allow(s.Allow)},
		{"validate", Validate(protovalidate.GlobalValidator)},
	}
}

func (s Server) stream() []named[grpc.StreamServerInterceptor] {
	return []named[grpc.StreamServerInterceptor]{
		{"observe", s.Observe.streamServer},
		{"seal", SealStream(s.log())},
		{"recover", RecoverStream},
		{"allow", AllowStream(s.Allow)},
		{"validate", ValidateStream(protovalidate.GlobalValidator)},
	}
}

type named[T any] struct {
	name        string
	interceptor T
}

func plain[T any](in []named[T]) []T {
	out := make([]T, len(in))
	for i, n := range in {
		out[i] = n.interceptor
	}
	return out
}

func (s Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// New returns a server for the network with the standard interceptors. opts
// must hold the transport credentials, see [TLS.Server].
func (s Server) New(opts ...grpc.ServerOption) *grpc.Server {
	base := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(plain(s.unary())...),
		grpc.ChainStreamInterceptor(plain(s.stream())...),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(10000),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
	return grpc.NewServer(append(base, opts...)...)
}
