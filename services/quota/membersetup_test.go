package quota_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/services/quota"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/line"
)

// natsServer starts a server that several connections share.
func natsServer(t testing.TB) *bus.Bus {
	t.Helper()
	cfg := bus.DefaultConfig()
	cfg.Dir, cfg.Sync, cfg.Listen = t.TempDir(), "2m", "127.0.0.1:0"
	b, err := bus.Open(cfg, t.Name(), embed.Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func onBus(url string) bus.Config { return bus.Config{URL: url, Sync: "always", Replicas: 1} }

// member is a quota node with a connection of its own.
type member struct {
	svc *quota.Service
	quotav1.QuotaServiceClient
	bus     *bus.Bus
	address string
	server  *grpc.Server
	ends    *ends
	wire    *countedWire
	leave   func()
	stopped chan struct{}
}

// startOn starts a member with a gRPC server of its own, over which others reach it
// without NATS.
func startOn(t testing.TB, on bus.Config, rules string) *member {
	t.Helper()
	cfg, err := read(rules)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(on, t.Name(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	peers := quota.OnBus("test", b)
	wire := &countedWire{Wire: peers.Wire}
	peers.Wire, peers.Address = wire, lis.Addr().String()
	peers.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		return identities(t, on.URL).Dial(ctx, "quota", "quota", address, line.Protocol)
	}
	svc, err := quota.NewMember(cfg, nil, slog.New(slog.NewTextHandler(t.Output(), nil)), peers)
	if err != nil {
		t.Fatal(err)
	}
	lines := &ends{}
	creds, err := identities(t, on.URL).Server("quota", lines.seen(svc.Protocols())...)
	if err != nil {
		t.Fatal(err)
	}
	srv := rpc.Server{Allow: quota.Role.Allow}.New(grpc.Creds(creds))
	svc.Register(srv)
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(lis) }) // ends with it
	t.Cleanup(func() {
		srv.Stop()
		served.Wait()
	})
	svc.KeepLedger(b, cfg.MaxKeys, cfg.MaxBookings, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{svc: svc, QuotaServiceClient: client(t, svc), bus: b, address: lis.Addr().String(), server: srv, ends: lines, wire: wire, leave: cancel, stopped: make(chan struct{})}
	go func() {
		defer close(m.stopped)
		if err := svc.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-m.stopped
	})
	return m
}

// await waits until a condition holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no end of waiting for %s", what)
		}
	}
}

// countedWire counts asks and copies that go over NATS.
type countedWire struct {
	cluster.Wire

	asked atomic.Int64
}

// Ask implements [cluster.Wire].
func (w *countedWire) Ask(ctx context.Context, subject string, q *quotav1.ClusterRequest) (*quotav1.ClusterReply, error) {
	if q.GetAsks() != nil || q.GetCopy() != nil {
		w.asked.Add(1)
	}
	return w.Wire.Ask(ctx, subject, q)
}

// estates holds the folder of certificates of those who share NATS servers, by these.
var estates sync.Map

func identities(t testing.TB, natsURL string) rpc.TLS {
	t.Helper()
	made, _ := estates.LoadOrStore(natsURL, sync.OnceValues(func() (string, error) {
		dir := t.TempDir()
		return dir, devca.Ensure(dir, "quota", "edge")
	}))
	dir, err := made.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return devca.Files(dir)
}

// ends are the connections of lines that others have opened.
type ends struct {
	mu   sync.Mutex
	over bool
	all  []net.Conn
}

func (e *ends) seen(protocols []rpc.Protocol) []rpc.Protocol {
	for i := range protocols {
		serve := protocols[i].Serve
		protocols[i].Serve = func(conn net.Conn) {
			e.mu.Lock()
			e.all = append(e.all, conn)
			if e.over {
				_ = conn.Close()
			}
			e.mu.Unlock()
			serve(conn)
		}
	}
	return protocols
}

// hangUp ends all that others have opened to a member, for good.
func (m *member) hangUp() {
	m.server.Stop()
	m.ends.mu.Lock()
	defer m.ends.mu.Unlock()
	m.ends.over = true
	for _, conn := range m.ends.all {
		_ = conn.Close()
	}
}
