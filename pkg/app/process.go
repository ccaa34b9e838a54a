package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/pkg/telemetry"
)

// Options are what a process is made of.
type Options struct {
	// Config is what [Load] has returned.
	Config Config
	// Log is where the process logs; nil discards.
	Log *slog.Logger
	// StartBus starts an embedded NATS server; nil in binaries that only dial.
	StartBus bus.Start
	// CheckOnly builds every role and starts nothing. It leaves nothing behind and
	// takes no address: what the configuration names may be in use.
	CheckOnly bool
	// Ready is called once, when every role is ready; it may be nil.
	Ready func(Info)
}

// Info tells where a process can be reached.
type Info struct {
	// PID of the process.
	PID int `json:"pid"`
	// AdminURL is where health and metrics are.
	AdminURL string `json:"admin_url,omitempty"`
	// NATSURL is where the embedded NATS server is, without credentials.
	NATSURL string `json:"nats_url,omitempty"`
	// Addresses holds, by role, where it can be reached.
	Addresses map[string]string `json:"addresses"`

	env func(role string) *Env
}

// Env returns an environment for a role that the process does not play but may
// call as: the operator's, in the process that runs everything.
func (i Info) Env(role string) *Env { return i.env(role) }

// addresser is a service that listens for something besides gRPC.
type addresser interface{ Addr() string }

// process is a set of roles, and what they share.
type process struct {
	cfg       Config
	log       *slog.Logger
	version   string
	health    *health
	bus       *bus.Bus
	recorder  *audit.Recorder
	telemetry *telemetry.Telemetry
	hosts     map[string]*host
	listeners map[string]*counted // gRPC, by role
	checking  bool                // nothing will be started
	admin     net.Listener

	mu        sync.Mutex
	observers map[string]*rpc.Observer // by role
}

// Run plays roles until ctx is done or one of them fails, then stops them: first
// those that nobody calls, which lets them finish what is in flight, then the
// others, then the audit recorder, telemetry and the bus.
func Run(ctx context.Context, o Options, roles ...Role) (err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.CheckOnly {
		away, err := aside(&o.Config)
		if err != nil {
			return err
		}
		defer away()
	}
	p := &process{
		cfg: o.Config, log: slog.New(telemetry.Logs(o.Log.Handler())), version: Version(), health: newHealth(),
		checking: o.CheckOnly, hosts: make(map[string]*host), listeners: make(map[string]*counted), observers: make(map[string]*rpc.Observer),
	}
	if err := os.MkdirAll(p.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	if p.telemetry, err = telemetry.Start(ctx, p.version, p.cfg.Node, p.log); err != nil {
		return err
	}
	defer p.shutdownTelemetry()
	if p.bus, err = bus.Open(p.cfg.Bus, "sallyport/"+p.cfg.Node, o.StartBus, p.log); err != nil {
		return err
	}
	defer p.bus.Close()
	p.health.add("process", "nats", p.bus.Check)
	if p.recorder, err = audit.NewRecorder(audit.Options{
		Publisher: p.bus.AuditPublisher(), Service: "sallyport", Node: p.cfg.Node,
		Config: p.cfg.Audit, Log: p.log, Meter: p.telemetry.Meter("audit-recorder"),
	}); err != nil {
		return err
	}
	if err := p.build(roles); err != nil {
		return err
	}
	defer p.closeListeners()
	if o.CheckOnly {
		return nil
	}
	return p.run(ctx, o.Ready, roles)
}

// aside makes a configuration that is only checked use a folder of its own,
// which away removes, and no address that may be taken.
func aside(cfg *Config) (away func(), err error) {
	dir, err := os.MkdirTemp("", "sallyport-check")
	if err != nil {
		return nil, err
	}
	cfg.StateDir, cfg.Bus.Dir, cfg.Bus.Listen, cfg.Listen, cfg.Admin = dir, filepath.Join(dir, "nats"), "", nil, ""
	return func() { _ = os.RemoveAll(dir) }, nil // what is left goes with the system's own cleaning
}

// elsewhere is what to do about an address that cannot be had.
const elsewhere = " (choose another address, or stop what uses this one)"

// build makes every role, and opens every listener so that a port that is taken
// is an error at once.
func (p *process) build(roles []Role) (err error) {
	for _, r := range roles {
		allow := map[string][]string{grpc_health_v1.Health_ServiceDesc.ServiceName: {rpc.AnyRole}}
		for service, callers := range r.Allow {
			allow[service] = callers
		}
		observer, err := p.observer(r.Name)
		if err != nil {
			return err
		}
		p.hosts[r.Name] = &host{started: make(chan struct{}), server: rpc.Server{
			Log: p.log.With("role", r.Name), Allow: allow, Observe: observer, Isolated: r.Isolated,
		}}
		if addr := p.cfg.Listen[r.Name]; addr != "" {
			lis, err := listen(addr)
			if err != nil {
				return fmt.Errorf("listen.%s: %w%s", r.Name, err, elsewhere)
			}
			p.listeners[r.Name] = newCounted(lis)
		}
	}
	for _, r := range roles {
		if p.hosts[r.Name].service, err = r.New(p.env(r.Name)); err != nil {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	for _, h := range p.hosts {
		close(h.started)
	}
	if p.cfg.Admin != "" {
		if p.admin, err = listen(p.cfg.Admin); err != nil {
			return fmt.Errorf("admin: %w%s", err, elsewhere)
		}
	}
	return nil
}

// observer returns the one observer of a role: instruments are made once.
func (p *process) observer(role string) (*rpc.Observer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.observers[role]; o != nil {
		return o, nil
	}
	o, err := p.telemetry.Observer(role)
	if err != nil {
		return nil, fmt.Errorf("telemetry of %s: %w", role, err)
	}
	p.observers[role] = o
	return o, nil
}

func (p *process) env(role string) *Env {
	return &Env{
		Role: role, Log: p.log.With("role", role), Bus: p.bus, Audit: Recorder{p.recorder, role},
		Node: p.cfg.Node, Version: p.version, StateDir: p.cfg.StateDir,
		Tracer: p.telemetry.Tracer(role), Meter: p.telemetry.Meter(role), proc: p,
	}
}

func (p *process) run(ctx context.Context, onReady func(Info), roles []Role) error {
	// Three lives that end one after the other: fronts, the roles behind them,
	// and what all of them need until the last.
	fronts, stopFronts := context.WithCancel(context.WithoutCancel(ctx))
	backs, stopBacks := context.WithCancel(context.WithoutCancel(ctx))
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFronts()
	defer stopBacks()
	defer stopBase()

	failed := make(chan error, 2*len(roles)+3) // more than can fail
	start := func(g *errgroup.Group, what string, run func() error) {
		g.Go(func() error {
			err := run()
			if err != nil && !errors.Is(err, context.Canceled) {
				err = fmt.Errorf("%s: %w", what, err)
				failed <- err
				return err
			}
			return nil
		})
	}
	var gFronts, gBacks, gBase errgroup.Group
	start(&gBase, "audit recorder", func() error { return p.recorder.Run(base) })
	if p.admin != nil {
		start(&gBase, "admin", func() error { return p.serveAdmin(base) })
	}
	for _, r := range roles {
		g, life := &gBacks, backs
		if len(r.Allow) == 0 {
			g, life = &gFronts, fronts
		}
		svc := p.hosts[r.Name].service
		start(g, r.Name, func() error { return svc.Run(life) })
		if lis := p.listeners[r.Name]; lis != nil {
			start(g, r.Name, func() error { return p.serve(life, r.Name, lis) })
		}
	}
	start(&gBase, "readiness", func() error { return p.awaitReady(base, onReady) })

	var cause error
	select {
	case <-ctx.Done():
	case cause = <-failed:
	}
	p.health.draining.Store(true)
	stopFronts()
	errFronts := gFronts.Wait()
	p.leave(roles)
	p.health.refusing.Store(true)
	stopBacks()
	errBacks := gBacks.Wait()
	stopBase()
	return errors.Join(cause, except(cause, errFronts), except(cause, errBacks), except(cause, gBase.Wait()))
}

// except returns err unless it has been reported already.
func except(cause, err error) error {
	if cause != nil && errors.Is(err, cause) {
		return nil
	}
	return err
}

// serve serves a role's gRPC services until ctx is done, and then lets calls in
// flight end.
func (p *process) serve(ctx context.Context, role string, lis net.Listener) error {
	h := p.hosts[role]
	var besides []rpc.Protocol
	if s, ok := h.service.(Speaker); ok {
		besides = s.Protocols()
	}
	creds, err := p.cfg.TLS.Server(role, besides...)
	if err != nil {
		return err
	}
	srv := h.server.New(grpc.Creds(creds))
	h.service.Register(srv)
	grpc_health_v1.RegisterHealthServer(srv, grpcHealth{health: p.health, role: role})
	if p.awaitRole(ctx, role); ctx.Err() != nil {
		return nil
	}
	defer context.AfterFunc(ctx, func() {
		force := time.AfterFunc(p.cfg.Drain, srv.Stop)
		defer force.Stop()
		srv.GracefulStop()
	})()
	return srv.Serve(lis)
}

func (p *process) serveAdmin(ctx context.Context) error {
	srv := &http.Server{
		Handler:           p.health.admin(p.version, p.telemetry.Metrics()),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
	}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })() // nothing there is worth waiting for
	if err := srv.Serve(p.admin); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// awaitReady calls onReady when every check passes for the first time.
func (p *process) awaitReady(ctx context.Context, onReady func(Info)) error {
	if p.health.await(ctx, "") != nil {
		return nil
	}
	p.log.Info("ready")
	if onReady != nil {
		onReady(p.info())
	}
	return nil
}

func (p *process) info() Info {
	i := Info{PID: os.Getpid(), NATSURL: p.bus.URL(), Addresses: make(map[string]string), env: p.env}
	if p.admin != nil {
		i.AdminURL = "http://" + p.admin.Addr().String()
	}
	for role, h := range p.hosts {
		if a, ok := h.service.(addresser); ok {
			i.Addresses[role] = a.Addr()
		} else if lis := p.listeners[role]; lis != nil {
			i.Addresses[role] = lis.Addr().String()
		} else {
			i.Addresses[role] = InProcess + role
		}
	}
	return i
}

func (p *process) closeListeners() {
	for _, lis := range p.listeners {
		_ = lis.Close() // served ones are closed already
	}
	if p.admin != nil {
		_ = p.admin.Close()
	}
}

func (p *process) shutdownTelemetry() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := p.telemetry.Shutdown(ctx); err != nil {
		p.log.Warn("telemetry could not be sent", "err", err)
	}
}

// listen opens "host:port", or takes over "fd:3" from the parent process.
func listen(address string) (net.Listener, error) {
	if fd, ok := strings.CutPrefix(address, "fd:"); ok {
		n, err := strconv.ParseUint(fd, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%q is not an inherited socket such as fd:3", address)
		}
		f := os.NewFile(uintptr(n), address)
		lis, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("inherited socket %s: %w", address, err)
		}
		return lis, f.Close()
	}
	return net.Listen("tcp", address)
}

// announceTo writes what Ready is told to an inherited file, one line of JSON.
func announceTo(fd int) func(Info) {
	return func(i Info) {
		f := os.NewFile(uintptr(fd), "ready")
		_ = json.NewEncoder(f).Encode(i) // the parent may have gone
		_ = f.Close()
	}
}
