package executor_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

var key = bytes.Repeat([]byte{0x42}, 32)

// system is an executor with a bus and tool services, all in memory.
type system struct {
	t       testing.TB
	bus     *bus.Bus
	seen    *contextStore
	config  executor.Config
	service *executor.Service
	audit   *recorder
	client  executorv1.ExecutorServiceClient
	watch   grpc.ServerStreamingClient[executorv1.WatchResponse]
	log     bytes.Buffer // under mu
	lines   sync.Cond    // on mu, for each line

	mu    sync.Mutex
	conns map[string]grpc.ClientConnInterface // by address
}

// start starts an executor. The bus must be told of services with announce.
func start(t testing.TB, configure ...func(*executor.Config)) *system {
	t.Helper()
	return startHeld(t, func(*system) catalogue.Hold { return nil }, configure...)
}

// startHeld is start with tools that are held.
func startHeld(t testing.TB, hold func(*system) catalogue.Hold, configure ...func(*executor.Config)) *system {
	t.Helper()
	s := &system{t: t, bus: bustest.New(t), audit: &recorder{}, conns: make(map[string]grpc.ClientConnInterface)}
	s.lines.L = &s.mu
	s.seen = &contextStore{Bus: s.bus}
	s.keepAnnouncements()
	cfg := executor.DefaultConfig()
	cfg.DefaultTimeout = time.Minute // slow machines shall not change what is tested
	cfg.GrantKeyFiles = []string{filepath.Join(t.TempDir(), "grant.key")}
	if err := os.WriteFile(cfg.GrantKeyFiles[0], key, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Envelope.Off = true // texts are compared; release_test.go is about it
	for _, c := range configure {
		c(&cfg)
	}
	svc, err := executor.New(executor.Options{
		Config: cfg, Audit: s.audit, Bus: s.bus, Used: s.bus, Contexts: s.seen, Dial: s.dial, Hold: hold(s),
		Log: slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), s), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.config = cfg
	s.run(svc)
	return s
}

// run runs an executor, and makes it the one that is called.
func (s *system) run(svc *executor.Service) {
	s.t.Helper()
	s.service = svc
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	})
	s.client = executorv1.NewExecutorServiceClient(rpctest.Serve(s.t, svc.Register))
	var err error
	if s.watch, err = s.client.Watch(ctx, &executorv1.WatchRequest{}); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.watch.Recv(); err != nil {
		s.t.Fatal(err)
	}
	if err := svc.Ready(ctx); err != nil {
		s.t.Errorf("Ready: %v", err)
	}
}

// keepAnnouncements makes announcements last for as long as the test, however
// slow the machine is: nobody renews them here.
func (s *system) keepAnnouncements() {
	s.t.Helper()
	ctx := s.t.Context()
	if _, err := s.bus.Get(ctx, bus.Tools, "none"); !errors.Is(err, bus.ErrNotFound) { // makes the bucket
		s.t.Fatal(err)
	}
	_, err := s.bus.JetStream().UpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: bus.Tools.Name, TTL: time.Hour, LimitMarkerTTL: time.Hour, Storage: jetstream.FileStorage,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// Write keeps what is logged.
func (s *system) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.lines.Broadcast()
	return s.log.Write(line)
}

// untilLogged waits for a text in the log.
func (s *system) untilLogged(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !strings.Contains(s.log.String(), text) {
		s.lines.Wait()
	}
}

// logged returns how often a text was logged.
func (s *system) logged(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.log.String(), text)
}

type conn struct{ grpc.ClientConnInterface }

func (conn) Close() error { return nil }

func (s *system) dial(service, address string) (executor.Conn, error) {
	if service == "guard" { // which is dialled when the executor is made
		return conn{late{s: s, address: address}}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conns[address]; c != nil {
		return conn{c}, nil
	}
	return nil, errors.New("nobody there")
}

// late is a connection to what will be at an address.
type late struct {
	grpc.ClientConnInterface
	s       *system
	address string
}

func (l late) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	l.s.mu.Lock()
	c := l.s.conns[l.address]
	l.s.mu.Unlock()
	if c == nil {
		return status.Error(codes.Unavailable, "nobody there")
	}
	return c.Invoke(ctx, method, args, reply, opts...)
}

// serve makes a tool service reachable at an address.
func (s *system) serve(address string, register func(grpc.ServiceRegistrar)) {
	s.t.Helper()
	s.connect(address, rpctest.Serve(s.t, register, rpctest.As("executor")))
}

func (s *system) connect(address string, c grpc.ClientConnInterface) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[address] = c
}

// announce puts a replica on the bus and waits until the tools are as wanted.
func (s *system) announce(service, instance, address string, files *descriptorpb.FileDescriptorSet, want ...string) {
	s.t.Helper()
	raw, err := proto.Marshal(&executorv1.Announcement{
		Service: service, Instance: instance, Address: address, Descriptors: files, Version: "1",
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.bus.Put(s.t.Context(), bus.Tools, service+"."+instance, raw); err != nil {
		s.t.Fatal(err)
	}
	s.wait(want...)
}

// wait returns when exactly these tools are listed.
func (s *system) wait(want ...string) []*executorv1.Tool {
	s.t.Helper()
	slices.Sort(want)
	for {
		resp, err := s.client.ListTools(s.t.Context(), &executorv1.ListToolsRequest{})
		if err != nil {
			s.t.Fatal(err)
		}
		var names []string
		for _, t := range resp.GetTools() {
			names = append(names, t.GetDefinition().GetName())
		}
		if slices.Equal(names, want) {
			return resp.GetTools()
		}
		if _, err := s.watch.Recv(); err != nil {
			s.t.Fatalf("tools are %q, want %q: %v", names, want, err)
		}
	}
}

// basics announces the service "basics", played by b.
func (s *system) basics(register func(grpc.ServiceRegistrar)) {
	s.t.Helper()
	s.serve("basics:1", register)
	s.announce("basics", "1", "basics:1", tooltest.Image(s.t, "basics"), "add_numbers", "echo")
}

// granted returns a request with a grant for it.
func granted(t testing.TB, tool, arguments string, edit ...func(*authv1.Grant)) *executorv1.CallRequest {
	t.Helper()
	sum := sha256.Sum256([]byte(arguments))
	g := &authv1.Grant{
		DecisionId: "d_01JDKZ5R9GQ0V4T4M5N6P7Q8R9",
		Principal:  &authv1.Principal{Id: "key:7Xk2", CredentialId: "7Xk2", Tenant: "acme", Roles: []string{"admin"}},
		Action:     authv1.Action_ACTION_TOOLS_CALL, Target: tool, ArgumentsSha256: sum[:],
		Origin: &authv1.Origin{Address: "192.0.2.7", Client: "test/1", ContextId: "c1"}, Expires: timestamppb.New(time.Now().Add(time.Minute)),
	}
	for _, e := range edit {
		e(g)
	}
	return &executorv1.CallRequest{
		Grant: seal(t, g, key), Tool: tool, Arguments: []byte(arguments), ArgumentsShape: "{…}",
	}
}

func seal(t testing.TB, g *authv1.Grant, key []byte) []byte {
	t.Helper()
	body, err := proto.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(key)
	out := append([]byte{1, 8}, []byte(hexOf(id[:4]))...)
	out = append(out, body...)
	mac := hmac.New(sha256.New, key)
	mac.Write(out)
	return mac.Sum(out)
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var out []byte
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// call makes a call and returns its result and the progress before it.
func (s *system) call(ctx context.Context, req *executorv1.CallRequest) (*executorv1.Result, []float64, error) {
	stream, err := s.client.Call(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	var result *executorv1.Result
	var progress []float64
	for {
		resp, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return result, progress, nil
		case err != nil:
			return nil, progress, err
		case result != nil:
			s.t.Errorf("a message after the result: %v", resp)
		case resp.GetProgress() != nil:
			progress = append(progress, resp.GetProgress().GetProgress())
		default:
			result = resp.GetResult()
		}
	}
}

// recorder keeps events, or refuses them.
type recorder struct {
	mu        sync.Mutex
	events    []*auditv1.Event
	committed int
	full      error // what Record returns
	lost      error // what Commit returns
	stuck     bool  // Commit waits for its context
	discard   bool  // for benchmarks
}

func (r *recorder) Record(_ context.Context, e *auditv1.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full != nil || r.discard {
		return r.full
	}
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) Commit(ctx context.Context, e *auditv1.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	if r.lost != nil {
		return r.lost
	}
	r.committed++
	r.events = append(r.events, e)
	return nil
}

// take returns what has happened since the last time.
func (r *recorder) take() []*auditv1.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.events
	r.events = nil
	return all
}

// all returns what has happened so far.
func (r *recorder) all() []*auditv1.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// kinds writes events as short words.
func kinds(events []*auditv1.Event) []string {
	var all []string
	for _, e := range events {
		switch {
		case e.GetDecision() != nil:
			all = append(all, "decision "+e.GetDecision().GetVerdict().String()[8:]+" "+e.GetDecision().GetReason().String()[7:]+" "+e.GetDecision().GetRule())
		case e.GetIntent() != nil:
			all = append(all, "intent")
		case e.GetOutcome() != nil:
			all = append(all, "outcome "+e.GetOutcome().GetStatus().String()[7:]+" "+e.GetOutcome().GetReason().String()[7:])
		}
	}
	return all
}
