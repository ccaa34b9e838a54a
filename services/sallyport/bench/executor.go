package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
)

// The call of which the executor's own part is measured: text such as people write,
// 300 bytes of arguments and a result of 1 kB.
var (
	argument = sentences(300 - len(`{"text":""}`))
	result   = &basicsv1.EchoResponse{Text: sentences(1000 - len(`{"text":""}`))}
)

func sentences(n int) string {
	const text = "The quarterly report for the board needs the list of all customers in the city, by name; Ms Keller (Zurich office) asked for it on Tuesday and will send it on at 9:30. "
	return strings.Repeat(text, n/len(text)+1)[:n]
}

// lone is something that is measured in this process by one caller.
type lone struct {
	name string
	do   func() error
}

// executorName is what the executor by itself is called in the table.
const executorName = "the executor alone"

// maxLone bounds the calls of one measurement of a lone one. Together they are over
// before the announcement of the tool ends.
const maxLone = 20_000

// measureExecutor measures what the executor itself costs for a call, with its default guards
// and without, as its own code does it: a call comes in without a transport, and a tool
// service answers without one. Beside it is one RPC with the same text and no more, by loopback.
func measureExecutor(ctx context.Context, o options, dir string, stdout, stderr io.Writer) (err error) {
	hop, stop, err := bareHop(ctx)
	if err != nil {
		return err
	}
	defer stop()
	all := []lone{{"one bare gRPC call, both sides", hop}}
	for _, a := range alones {
		name := executorName + ", " + a.name
		call, stop, err := a.start(ctx, filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer stop()
		all = append(all, lone{name, call})
	}
	samples := make([][]sample, len(all))
	for round := range o.rounds {
		for i, l := range all {
			fmt.Fprintf(stderr, "round %d of %d: %s …\n", round+1, o.rounds, l.name)
			s, err := l.measure(min(o.limit, 2*time.Second))
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			samples[i] = append(samples[i], s)
		}
	}
	fmt.Fprintf(stdout, "\none call of 300 bytes with a result of 1 kB, one caller, in this process; medians of %d\n\n", o.rounds)
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "what\tCPU µs/call\t(range)\tallocs/call\tB/call\tCPU ratio\t")
	for i, l := range all {
		m, base := median(samples[i]), median(samples[0])
		cpu := make([]float64, len(samples[i]))
		for j, s := range samples[i] {
			cpu[j] = s.cpu
		}
		fmt.Fprintf(t, "%s\t%.1f\t(%.0f-%.0f)\t%.0f\t%.0f\t%.1f\t\n", l.name, m.cpu, slices.Min(cpu), slices.Max(cpu), m.allocs, m.bytes, m.cpu/base.cpu)
	}
	return t.Flush()
}

// measure calls for as long as limit, after a tenth of that to warm up. CPU is what
// the kernel charges to this process, its collector among it.
func (l lone) measure(limit time.Duration) (sample, error) {
	for start := time.Now(); time.Since(start) < limit/10; {
		if err := l.do(); err != nil {
			return sample{}, err
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, err := processCPU(os.Getpid())
	if err != nil {
		return sample{}, err
	}
	n, start := 0.0, time.Now()
	for ; n < maxLone && time.Since(start) < limit; n++ {
		if err := l.do(); err != nil {
			return sample{}, err
		}
	}
	spent, err := processCPU(os.Getpid())
	if err != nil {
		return sample{}, err
	}
	s := sample{cpu: micros(spent-cpu) / n}
	runtime.ReadMemStats(&after)
	s.allocs = float64(after.Mallocs-before.Mallocs) / n
	s.bytes = float64(after.TotalAlloc-before.TotalAlloc) / n
	return s, nil
}

// bareHop returns a unary RPC by loopback, without TLS and interceptors.
func bareHop(ctx context.Context) (do func() error, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	srv := grpc.NewServer()
	basicsv1.RegisterBasicsServiceServer(srv, readyEcho{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(listener) // until it is stopped
	}()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	stop = func() {
		if conn != nil {
			_ = conn.Close() // it is over
		}
		srv.Stop()
		<-ended
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	client, request := basicsv1.NewBasicsServiceClient(conn), &basicsv1.EchoRequest{Text: argument}
	return func() error {
		_, err := client.Echo(ctx, request)
		return err
	}, stop, nil
}

// readyEcho is a tool service that has its answer ready.
type readyEcho struct {
	basicsv1.UnimplementedBasicsServiceServer
}

// Echo implements [basicsv1.BasicsServiceServer].
func (readyEcho) Echo(context.Context, *basicsv1.EchoRequest) (*basicsv1.EchoResponse, error) {
	return result, nil
}

// alone is an executor with its defaults, but for what it says.
type alone struct {
	name      string
	untrusted bool // the tool's content is anybody's, and the client names its context
	unguarded bool
}

var alones = []alone{
	{name: "default guards"},
	{name: "default guards, untrusted content", untrusted: true},
	{name: "no guards", unguarded: true},
}

// start starts the executor and a tool of a service that has its answer ready, and
// returns a call of it.
func (a alone) start(ctx context.Context, dir string) (do func() error, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	quiet := slog.New(slog.DiscardHandler)
	cfg := executor.DefaultConfig()
	cfg.GrantKeyFiles = []string{filepath.Join(dir, "grant.key")}
	if a.untrusted {
		joining := cfg.Joining["basics"]
		joining.Default.Trust = "untrusted"
		put(&cfg.Joining, "basics", joining)
	}
	if a.unguarded {
		d := &cfg.Guards.Defaults
		off := d.Personal
		d.Controls, d.Invisibles, d.Secrets, d.Links, d.Injection = off, off, off, off, off
	}
	key := slices.Repeat([]byte{7}, 32)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(cfg.GrantKeyFiles[0], key, 0o600)); err != nil {
		return nil, nil, err
	}
	own := bus.DefaultConfig()
	own.Dir = filepath.Join(dir, "nats")
	b, err := bus.Open(own, "bench", embed.Start, quiet)
	if err != nil {
		return nil, nil, err
	}
	ready, err := proto.Marshal(result)
	if err != nil {
		return nil, nil, err
	}
	service, err := executor.New(executor.Options{
		Config: cfg, Audit: forgetful{}, Bus: b, Used: b, Contexts: b, Log: quiet,
		Dial: func(string, string) (executor.Conn, error) { return answering{answer: ready}, nil },
	})
	if err != nil {
		b.Close()
		return nil, nil, err
	}
	var running sync.WaitGroup
	running.Go(func() { _ = service.Run(ctx) }) // until it is cancelled
	stop = func() {
		cancel()
		running.Wait()
		b.Close()
	}
	origin := &authv1.Origin{Address: "192.0.2.7", Client: "bench/1", ContextId: "c1"}
	if a.untrusted {
		origin.ContextSource = authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT
	}
	request := granted(key, origin)
	do = func() error {
		into := &last{ctx: ctx}
		if err := service.Call(request, into); err != nil {
			return err
		}
		if no := into.response.GetResult().GetRefusal(); no != nil {
			return errors.New(no.GetMessage())
		}
		return nil
	}
	if err := announce(ctx, b, &running, do); err != nil {
		stop()
		return nil, nil, err
	}
	return do, stop, nil
}

// put puts a value into a map that may be nil.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

// announce announces the tool again and again, as services do, and returns once it can
// be called. It goes on until ctx is done.
func announce(ctx context.Context, b *bus.Bus, running *sync.WaitGroup, do func() error) error {
	raw, err := proto.Marshal(&executorv1.Announcement{
		Service: "basics", Instance: "1", Address: "bench", Version: "1",
		Descriptors: &descriptorpb.FileDescriptorSet{File: files(basicsv1.File_sallyport_tools_basics_v1_basics_proto, make(map[string]bool))},
	})
	if err != nil {
		return err
	}
	put := func() error {
		_, err := b.Put(ctx, bus.Tools, "basics.1", raw)
		return err
	}
	if err := put(); err != nil {
		return err
	}
	running.Go(func() {
		for range ticks(ctx, 3*time.Second) {
			_ = put() // a call says when it is gone
		}
	})
	deadline, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for range ticks(deadline, 20*time.Millisecond) {
		if err = do(); err == nil {
			return nil
		}
	}
	return errors.Join(deadline.Err(), err)
}

// ticks yields each time until ctx is done.
func ticks(ctx context.Context, each time.Duration) func(func() bool) {
	return func(yield func() bool) {
		t := time.NewTicker(each)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if !yield() {
					return
				}
			}
		}
	}
}

// files returns a file and all that it imports, these first.
func files(f protoreflect.FileDescriptor, seen map[string]bool) (all []*descriptorpb.FileDescriptorProto) {
	if seen[f.Path()] {
		return nil
	}
	seen[f.Path()] = true
	for i := range f.Imports().Len() {
		all = append(all, files(f.Imports().Get(i).FileDescriptor, seen)...)
	}
	return append(all, protodesc.ToFileDescriptorProto(f))
}

// granted returns a call with a grant as auth makes it: version, key id, grant, MAC.
func granted(key []byte, origin *authv1.Origin) *executorv1.CallRequest {
	arguments := []byte(`{"text":"` + argument + `"}`)
	sum := sha256.Sum256(arguments)
	body, err := proto.Marshal(&authv1.Grant{
		DecisionId: "d_01JDKZ5R9GQ0V4T4M5N6P7Q8R9", Principal: newStubAuth().authenticate.GetPrincipal(),
		Action: authv1.Action_ACTION_TOOLS_CALL, Target: "echo", ArgumentsSha256: sum[:],
		Origin: origin, Expires: timestamppb.New(time.Now().Add(time.Hour)),
	})
	if err != nil {
		panic(err) // it is always the same
	}
	id := sha256.Sum256(key)
	sealed := append([]byte{1, 8}, hex.EncodeToString(id[:4])...)
	sealed = append(sealed, body...)
	mac := hmac.New(sha256.New, key)
	mac.Write(sealed)
	return &executorv1.CallRequest{Grant: mac.Sum(sealed), Tool: "echo", Arguments: arguments, ArgumentsShape: "{text: string}"}
}

// answering is a connection to a tool service that has its answer ready. Messages are
// encoded and decoded as for a network.
type answering struct {
	grpc.ClientConnInterface
	answer []byte
}

// Invoke implements [grpc.ClientConnInterface].
func (a answering) Invoke(_ context.Context, _ string, args, reply any, _ ...grpc.CallOption) error {
	if how, asked := reply.(*healthv1.HealthCheckResponse); asked {
		how.Status = healthv1.HealthCheckResponse_SERVING
		return nil
	}
	if _, err := proto.Marshal(args.(proto.Message)); err != nil {
		return err
	}
	return proto.Unmarshal(a.answer, reply.(proto.Message))
}

// Close implements [executor.Conn].
func (answering) Close() error { return nil }

// Commit implements [executor.Recorder].
func (forgetful) Commit(context.Context, *auditv1.Event) error { return nil }

// last is the server's side of a call that keeps the last message.
type last struct {
	grpc.ServerStream
	ctx      context.Context
	response *executorv1.CallResponse
}

// Context implements [grpc.ServerStream].
func (l *last) Context() context.Context { return l.ctx }

// Send implements [grpc.ServerStreamingServer].
func (l *last) Send(m *executorv1.CallResponse) error {
	l.response = m
	return nil
}
