// Package rpctest serves gRPC services inside a test, over memory, behind the
// interceptors that production uses.
package rpctest

import (
	"log/slog"
	"testing"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// An Option changes how [Serve] serves.
type Option func(*options)

type options struct {
	caller string
	allow  []string
}

// As makes the calls come from a role; without it they come from "edge".
func As(role string) Option { return func(o *options) { o.caller = role } }

// Serve lets register add services to an in-memory server that admits every
// role, and returns a connection to it.
func Serve(t testing.TB, register func(grpc.ServiceRegistrar), opts ...Option) grpc.ClientConnInterface {
	t.Helper()
	o := options{caller: "edge", allow: []string{rpc.AnyRole}}
	for _, opt := range opts {
		opt(&o)
	}
	names := recorder{}
	register(names)
	srv := rpc.Server{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Allow: map[string][]string{}}
	for name := range names {
		srv.Allow[name] = o.allow
	}
	return srv.Local(o.caller, nil, register)
}

// recorder learns the names of the services that are registered.
type recorder map[string]bool

func (r recorder) RegisterService(desc *grpc.ServiceDesc, _ any) { r[desc.ServiceName] = true }
