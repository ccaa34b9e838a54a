package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	basicsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/basics/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/pkg/telemetry"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// Kinds of servers that this program can be.
const (
	kindEcho  = "echo" // answers what it was sent
	kindNode  = "node" // a quota node; alone without NATS
	kindNATS  = "nats"
	kindWhole = "whole" // NATS and two nodes
)

// nodeOptions say what a server process is.
type nodeOptions struct {
	kind  string
	nats  string // URL; empty for a node that counts alone
	tls   string // folder of certificates for all that is used in production; empty for bare gRPC
	rules string
	dir   string
}

// announcement is the line that tells where a server can be reached.
type announcement struct {
	Address string `json:"address"` // of gRPC or NATS
	TCP     string `json:"tcp"`     // of a bare echo
	Admin   string `json:"admin"`
}

// serveNode is a server until its standard input ends, hence also if the process
// that started it dies.
func serveNode(ctx context.Context, o nodeOptions, stdin io.Reader, stdout io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, stdin)
		stop()
	}()
	g, ctx := errgroup.WithContext(ctx)
	admin := http.NewServeMux()
	admin.HandleFunc("/debug/pprof/profile", pprof.Profile)
	admin.HandleFunc("/cost", ownCost)
	var at announcement
	var err error
	switch o.kind {
	case kindNATS:
		at.Address, err = serveNATS(ctx, g, o)
	case kindWhole:
		at.Address, err = serveWhole(ctx, g, o, admin)
	case kindEcho:
		if o.nats != "" {
			var b *bus.Bus
			if b, err = dialBus(o.nats); err != nil {
				return err
			}
			if at.TCP, err = answerEchoes(ctx, b); err != nil {
				return err
			}
		}
		at.Address, err = serveEcho(ctx, g, o)
	case kindNode:
		at.Address, err = serveQuota(ctx, g, o, admin)
	default:
		err = fmt.Errorf("-serve: no such server: %q", o.kind)
	}
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	at.Admin = "http://" + lis.Addr().String()
	srv := &http.Server{Handler: admin, ReadHeaderTimeout: time.Second}
	g.Go(func() error { return except(srv.Serve(lis), http.ErrServerClosed) })
	context.AfterFunc(ctx, func() { _ = srv.Close() }) // nothing to lose
	if err := json.NewEncoder(stdout).Encode(at); err != nil {
		return err
	}
	return g.Wait()
}

// except is err, unless it says what was expected.
func except(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

func serveNATS(ctx context.Context, g *errgroup.Group, o nodeOptions) (string, error) {
	cfg := bus.DefaultConfig()
	cfg.Dir, cfg.Listen, cfg.Sync = o.dir, "127.0.0.1:0", "2m"
	b, err := bus.Open(cfg, "bench", embed.Start, nil)
	if err != nil {
		return "", err
	}
	g.Go(func() error {
		<-ctx.Done()
		b.Close()
		return nil
	})
	return b.URL(), nil
}

func dialBus(url string) (*bus.Bus, error) {
	return bus.Open(bus.Config{URL: url, Sync: "always", Replicas: 1}, "bench", nil, nil)
}

// serveWhole is a NATS server and two nodes; the second tells what it measures.
func serveWhole(ctx context.Context, g *errgroup.Group, o nodeOptions, admin *http.ServeMux) (string, error) {
	url, err := serveNATS(ctx, g, o)
	if err != nil {
		return "", err
	}
	o.nats = url
	if _, err := serveQuota(ctx, g, o, http.NewServeMux()); err != nil {
		return "", err
	}
	asking, err := dialBus(url)
	if err != nil {
		return "", err
	}
	answering, err := dialBus(url)
	if err != nil {
		return "", err
	}
	if _, err := answerEchoes(ctx, answering); err != nil {
		return "", err
	}
	answer(admin, "/bare", func(ctx context.Context) (any, error) { return requests(ctx, asking) })
	return serveQuota(ctx, g, o, admin)
}

func serveQuota(ctx context.Context, g *errgroup.Group, o nodeOptions, admin *http.ServeMux) (string, error) {
	cfg := quota.DefaultConfig()
	d := yaml.NewDecoder(strings.NewReader(o.rules))
	d.KnownFields(true)
	if err := d.Decode(&cfg); err != nil {
		return "", fmt.Errorf("-rules: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	tel, err := telemetry.Start(ctx, "bench", "bench", log)
	if err != nil {
		return "", err
	}
	meter := tel.Meter("quota")
	admin.Handle("/metrics", tel.Metrics())
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	var svc *quota.Service
	if o.nats == "" {
		svc, err = quota.New(cfg, meter, log)
	} else {
		var b *bus.Bus
		if b, err = dialBus(o.nats); err != nil {
			return "", err
		}
		peers := quota.OnBus("bench", b)
		p := &probe{Wire: peers.Wire}
		peers.Wire = p
		var at net.Listener
		if at, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", err
		}
		peers.Address, peers.Dial = at.Addr().String(), p.dial
		svc, err = quota.NewMember(cfg, meter, log, peers)
		if err != nil {
			return "", err
		}
		p.svc = svc
		p.handle(admin)
		g.Go(func() error { return serveLines(ctx, at, svc) })
	}
	if err != nil {
		return "", err
	}
	g.Go(func() error { return svc.Run(ctx) })
	return serveGRPC(ctx, g, o, lis, svc.Register)
}

// serveLines serves lines of other nodes without TLS.
func serveLines(ctx context.Context, lis net.Listener, svc *quota.Service) error {
	context.AfterFunc(ctx, func() { _ = lis.Close() }) // the process ends
	for {
		conn, err := lis.Accept()
		if err != nil {
			return except(err, net.ErrClosed)
		}
		go svc.ServeLine(conn) // ends when either hangs up
	}
}

func serveEcho(ctx context.Context, g *errgroup.Group, o nodeOptions) (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return serveGRPC(ctx, g, o, lis, func(r grpc.ServiceRegistrar) { basicsv1.RegisterBasicsServiceServer(r, echo{}) })
}

// serveGRPC serves with nothing besides, or with all that is used in production.
func serveGRPC(ctx context.Context, g *errgroup.Group, o nodeOptions, lis net.Listener, register func(grpc.ServiceRegistrar)) (_ string, err error) {
	srv := grpc.NewServer()
	if o.kind == kindNode {
		srv = grpc.NewServer(grpc.NumStreamWorkers(64)) // as pkg/rpc does; the echo has what grpc-go gives
	}
	if o.tls != "" {
		if srv, err = guarded(ctx, o.tls); err != nil {
			return "", err
		}
	}
	register(srv)
	g.Go(func() error { return srv.Serve(lis) })
	context.AfterFunc(ctx, srv.Stop)
	return lis.Addr().String(), nil
}

func guarded(ctx context.Context, dir string) (*grpc.Server, error) {
	creds, err := devca.Files(dir).Server("quota")
	if err != nil {
		return nil, err
	}
	tel, err := telemetry.Start(ctx, "bench", "bench", slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	observer, err := tel.Observer("quota")
	if err != nil {
		return nil, err
	}
	edge := []string{"edge"}
	return rpc.Server{Observe: observer, Allow: map[string][]string{
		quotav1.QuotaService_ServiceDesc.ServiceName: edge, basicsv1.BasicsService_ServiceDesc.ServiceName: edge,
	}}.New(grpc.Creds(creds)), nil
}

// echo answers what it was sent.
type echo struct {
	basicsv1.UnimplementedBasicsServiceServer
}

// Echo implements [basicsv1.BasicsServiceServer].
func (echo) Echo(_ context.Context, req *basicsv1.EchoRequest) (*basicsv1.EchoResponse, error) {
	return &basicsv1.EchoResponse{Text: req.GetText()}, nil
}
