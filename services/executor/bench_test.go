package executor_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// parrotConn is a tool service without a transport: it answers echo with its
// request, through the encoding as a network would.
type parrotConn struct{ grpc.ClientConnInterface }

func (parrotConn) Invoke(_ context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	if strings.HasPrefix(method, "/grpc.health.v1.") {
		return status.Error(codes.Unimplemented, "")
	}
	raw, err := proto.Marshal(args.(proto.Message))
	if err != nil {
		return err
	}
	return proto.Unmarshal(raw, reply.(proto.Message))
}

// sink is the server's side of a call that keeps nothing.
type sink struct {
	grpc.ServerStream
	ctx  context.Context
	last *executorv1.CallResponse
}

func (s *sink) Context() context.Context { return s.ctx }

func (s *sink) Send(m *executorv1.CallResponse) error {
	s.last = m
	return nil
}

// direct starts an executor and returns the service itself.
func direct(b testing.TB, configure ...func(*executor.Config)) *executor.Service {
	b.Helper()
	s := start(b, configure...)
	s.connect("basics:1", parrotConn{})
	s.announce("basics", "1", "basics:1", tooltest.Image(b, "basics"), "add_numbers", "echo")
	s.audit.discard = true
	return s.service
}

// A whole call but for the transports on both sides.
func BenchmarkCall(b *testing.B) {
	benchmarkCall(b, direct(b), `{"text":"The quick brown fox jumps over the lazy dog."}`)
}

// The same with 300 bytes there and back, with guards and without.
func BenchmarkCall300(b *testing.B) {
	arguments := `{"text":"` + strings.Repeat("The quick brown fox jumps over the lazy dog. ", 6) + `"}`
	b.Run("guarded", func(b *testing.B) { benchmarkCall(b, direct(b), arguments) })
	b.Run("unguarded", func(b *testing.B) {
		benchmarkCall(b, direct(b, func(c *executor.Config) {
			off := guard.Modes{Arguments: guard.Off, Results: guard.Off}
			c.Guards.Defaults = guard.Set{Controls: off, Invisibles: off, Secrets: off, Personal: off, Links: off, Injection: off}
		}), arguments)
	})
}

func benchmarkCall(b *testing.B, svc *executor.Service, arguments string) {
	req := granted(b, "echo", arguments)
	stream := &sink{ctx: b.Context()}
	b.ReportAllocs()
	for b.Loop() {
		if err := svc.Call(req, stream); err != nil {
			b.Fatal(err)
		}
	}
	if stream.last.GetResult().GetRefusal() != nil {
		b.Fatal(stream.last)
	}
}

// The worst that arguments can ask for is cheap too.
func BenchmarkCallRefused(b *testing.B) {
	svc := direct(b)
	req := granted(b, "echo", `{"txt":"The quick brown fox"}`)
	stream := &sink{ctx: b.Context()}
	b.ReportAllocs()
	for b.Loop() {
		if err := svc.Call(req, stream); err != nil {
			b.Fatal(err)
		}
	}
}
