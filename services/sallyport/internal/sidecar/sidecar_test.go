package sidecar_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/sidecar"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/toolproto"
)

// server is a tool's server that knows nothing of us.
type server struct {
	basicsv1.UnimplementedBasicsServiceServer

	echo func(ctx context.Context, text string) (string, error)
}

func (s server) Echo(ctx context.Context, r *basicsv1.EchoRequest) (*basicsv1.EchoResponse, error) {
	text, err := s.echo(ctx, r.GetText())
	return &basicsv1.EchoResponse{Text: text}, err
}

// start puts a sidecar before a server and returns a client that is the executor.
func start(t testing.TB, echo func(ctx context.Context, text string) (string, error)) (basicsv1.BasicsServiceClient, *grpc.Server) {
	t.Helper()
	lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	backend := grpc.NewServer()
	basicsv1.RegisterBasicsServiceServer(backend, server{echo: echo})
	go func() { _ = backend.Serve(lis) }()
	t.Cleanup(backend.Stop)
	image, err := toolproto.Load(t.Context(), "../../../tools/basics/descriptor.binpb")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("../../../tools/basics/descriptor.binpb")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := sidecar.Dial("unix:" + lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := sidecar.Reach(t.Context(), conn, nil); err != nil {
		t.Fatal(err)
	}
	certs := t.TempDir()
	if err := devca.Ensure(certs, "basics", "executor"); err != nil {
		t.Fatal(err)
	}
	cfg, err := app.Load("", "state_dir="+t.TempDir(), "bus.sync=2m")
	if err != nil {
		t.Fatal(err)
	}
	cfg.TLS, cfg.Listen = devca.Files(certs), map[string]string{"basics": "127.0.0.1:0"}
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan app.Info, 1), make(chan error, 1)
	go func() {
		done <- app.Run(ctx, app.Options{Config: cfg, StartBus: embed.Start, Ready: func(i app.Info) { ready <- i }},
			toolkit.Role("basics", raw, func(env *app.Env) (app.Service, error) {
				return sidecar.New(env, image.Services, conn, nil), nil
			}))
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	creds, err := cfg.TLS.Client("executor", "basics")
	if err != nil {
		t.Fatal(err)
	}
	executor, err := rpc.Dial((<-ready).Addresses["basics"], nil, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = executor.Close() })
	return basicsv1.NewBasicsServiceClient(executor), backend
}

func TestCallsArePassedOn(t *testing.T) {
	t.Parallel()
	seen := make(chan metadata.MD, 1)
	client, _ := start(t, func(ctx context.Context, text string) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the deadline is not passed on")
		}
		seen <- md
		return strings.ToUpper(text), nil
	})
	ctx, cancel := context.WithTimeout(toolkit.Chain{Context: "task:7", Hops: 2}.With(t.Context()), time.Minute)
	defer cancel()
	got, err := client.Echo(ctx, &basicsv1.EchoRequest{Text: "æ"})
	if err != nil || got.GetText() != "Æ" {
		t.Errorf("got %v, %v", got, err)
	}
	if got := toolkit.ChainOf(metadata.NewIncomingContext(t.Context(), <-seen)); got != (toolkit.Chain{Context: "task:7", Hops: 2}) {
		t.Errorf("the chain is %v", got)
	}
}

// What a server reports to have used goes to the executor, with an answer and with an
// error, and nothing else of its trailers does.
func TestReportsArePassedOn(t *testing.T) {
	t.Parallel()
	client, _ := start(t, func(ctx context.Context, text string) (string, error) {
		toolkit.Used(ctx, "rows", 7)
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-internal", "secret"))
		if text == "fail" {
			return "", status.Error(codes.NotFound, "no")
		}
		return text, nil
	})
	for _, text := range []string{"x", "fail"} {
		var trailer metadata.MD
		if _, err := client.Echo(t.Context(), &basicsv1.EchoRequest{Text: text}, grpc.Trailer(&trailer)); (err != nil) != (text == "fail") {
			t.Fatal(err)
		}
		if got, err := toolkit.UsedOf(trailer); err != nil || got["rows"] != 7 || len(trailer.Get("x-internal")) > 0 {
			t.Errorf("%s: got %v, error %v, trailer %v", text, got, err, trailer)
		}
	}
}

// A server may rely on the rules of its proto, in whatever language it is.
func TestRequestsThatBreakRulesAreNotPassedOn(t *testing.T) {
	t.Parallel()
	client, _ := start(t, func(context.Context, string) (string, error) {
		t.Error("the server was called")
		return "", nil
	})
	_, err := client.Echo(t.Context(), &basicsv1.EchoRequest{})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "text: string.min_len") {
		t.Errorf("got %v", err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want string // of the fault; "" if there must be none
		code codes.Code
	}{
		{"what the author has said", status.Error(codes.NotFound, "no city X"), "no city X (NOT_FOUND)", codes.NotFound},
		{"what a library has said", errors.New("dial 10.0.0.7: secret"), "", codes.Internal},
		{"what a library has said of itself", status.Error(codes.Internal, "at main.py:7"), "", codes.Internal},
		{"what nobody wrote", status.Error(codes.ResourceExhausted, "grpc: received message larger than max"), "", codes.Internal},
		{"a fault", &fault.Error{Code: codes.Unavailable, Domain: "x.v1", Reason: "BUSY", Message: "later"}, "later (BUSY)", codes.Unavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client, _ := start(t, func(context.Context, string) (string, error) { return "", tt.err })
			_, err := client.Echo(t.Context(), &basicsv1.EchoRequest{Text: "x"})
			f, ok := errors.AsType[*fault.Error](fault.Receive(err))
			if status.Code(err) != tt.code || ok != (tt.want != "") || ok && f.Error() != tt.want || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "main.py") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestServerThatIsGone(t *testing.T) {
	t.Parallel()
	client, backend := start(t, func(context.Context, string) (string, error) { return "", nil })
	backend.Stop()
	if _, err := client.Echo(t.Context(), &basicsv1.EchoRequest{Text: "x"}); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestChild(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	c, err := sidecar.Start([]string{"sh", "-c", `cat "$SALLYPORT_IMAGE"; echo " $SALLYPORT_LISTEN"; exit 3`}, []byte("image"), &out)
	if err != nil {
		t.Fatal(err)
	}
	<-c.Ended()
	if got := c.Err().Error(); got != "sh has ended: exit status 3" {
		t.Errorf("Err = %q", got)
	}
	if got := out.String(); got != "image "+c.Target+"\n" {
		t.Errorf("it printed %q", got)
	}
	folder := filepath.Dir(strings.TrimPrefix(c.Target, "unix:"))
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v", info, err)
	}
	c.Stop()
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there (%v)", err)
	}
	conn, err := sidecar.Dial(c.Target)
	if err != nil {
		t.Fatal(err)
	}
	if err := sidecar.Reach(t.Context(), conn, c); err == nil || err.Error() != "sh has ended: exit status 3" {
		t.Errorf("Reach = %v", err)
	}
}

// What a child has started ends with it.
func TestChildWithChildren(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c, err := sidecar.Start([]string{"sh", "-c", `sleep 1000 & echo started; wait`}, nil, w)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if n, err := r.Read(b); err != nil || string(b[:n]) != "started\n" {
		t.Fatalf("it printed %q, %v", b[:n], err)
	}
	c.Stop()
	if n, err := r.Read(b); n != 0 || err == nil { // the end, once nobody has the pipe
		t.Errorf("it printed %q, %v", b[:n], err)
	}
}

// BenchmarkCall is a call through the sidecar, both hops and the tool included.
func BenchmarkCall(b *testing.B) {
	client, _ := start(b, func(_ context.Context, text string) (string, error) { return text, nil })
	req := &basicsv1.EchoRequest{Text: strings.Repeat("x", 300)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Echo(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}
