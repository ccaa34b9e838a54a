package rpc

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
)

// DefaultDeadline is how long a unary call may take when its context says
// nothing: every outgoing call has a deadline.
const DefaultDeadline = 5 * time.Second

// policy is the retry policy of every connection. Only methods that change
// nothing are named; each try counts against the same deadline, and a peer that
// keeps failing is not retried at all (retryThrottling).
const policy = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [
      {"service": "sallyport.auth.v1.AuthService", "method": "Authenticate"},
      {"service": "sallyport.auth.v1.AuthService", "method": "FilterTools"},
      {"service": "sallyport.auth.v1.KeyService", "method": "ListKeys"},
      {"service": "sallyport.quota.v1.QuotaService", "method": "Peek"},
      {"service": "sallyport.quota.v1.QuotaService", "method": "Usage"},
      {"service": "sallyport.executor.v1.ExecutorService", "method": "ListTools"},
      {"service": "sallyport.audit.v1.AuditService", "method": "Query"}
    ],
    "retryPolicy": {
      "maxAttempts": 3,
      "initialBackoff": "0.02s",
      "maxBackoff": "0.2s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }],
  "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
}`

// Dial returns a lazy connection to target with the standard interceptors. A
// target is one of gRPC's, or several addresses with commas between them, each of
// which gets its share of the calls while it can be reached. Faults that the peer
// raised come back as faults. opts must hold the transport credentials, see
// [TLS.Client]; a nil observer observes nothing.
func Dial(target string, observe *Observer, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	base := []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(Deadline, Receive, observe.unaryClient),
		grpc.WithChainStreamInterceptor(ReceiveStream, observe.streamClient),
		grpc.WithDefaultServiceConfig(policy),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
	}
	if strings.Contains(target, ",") {
		list := manual.NewBuilderWithScheme("list")
		list.InitialState(addresses(target))
		base, target = append(base, grpc.WithResolvers(list)), "list:///peers"
	}
	return grpc.NewClient(target, append(base, opts...)...)
}

// Narrow are options of [Dial] for a peer that may send what nobody wants: of a
// stream that is not read, or is given up, no more than 64 KiB arrive. gRPC's own
// windows grow up to 16 MiB, the more the faster a peer sends. A message that is
// read gets room for all of itself, so large ones are no slower.
func Narrow() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithStaticStreamWindowSize(64 << 10), grpc.WithStaticConnWindowSize(1 << 20)}
}

// addresses reads a list with commas.
func addresses(list string) (s resolver.State) {
	for a := range strings.SplitSeq(list, ",") {
		if a = strings.TrimSpace(a); a != "" {
			s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
		}
	}
	return s
}

// Deadline gives a call that has no deadline the default one.
func Deadline(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultDeadline)
		defer cancel()
	}
	return call(ctx, method, req, reply, cc, opts...)
}

// Receive makes faults of the errors that a call returns.
func Receive(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return fault.Receive(call(ctx, method, req, reply, cc, opts...))
}

// ReceiveStream is [Receive] for streams.
func ReceiveStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, fault.Receive(err)
	}
	return receivingStream{s}, nil
}

type receivingStream struct{ grpc.ClientStream }

// RecvMsg implements [grpc.ClientStream]. io.EOF passes as it is.
func (s receivingStream) RecvMsg(m any) error { return fault.Receive(s.ClientStream.RecvMsg(m)) }
