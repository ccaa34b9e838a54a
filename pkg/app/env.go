package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// Env is what the process offers to one role.
type Env struct {
	// Role is the role's name.
	Role string
	// Log is for this role.
	Log *slog.Logger
	// Bus is the process's connection to NATS.
	Bus *bus.Bus
	// Audit records events in this role's name.
	Audit Recorder
	// Node tells processes of one role apart.
	Node string
	// Version of the program.
	Version string
	// StateDir is where the role may keep files.
	StateDir string
	// Tracer and Meter observe this role.
	Tracer trace.Tracer
	Meter  metric.Meter

	proc *process
}

// Conn is a connection that can be closed.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// Recorder writes to the audit stream in the name of one role.
type Recorder struct {
	recorder *audit.Recorder
	role     string
}

// Record is [audit.Recorder.Record].
func (r Recorder) Record(ctx context.Context, e *auditv1.Event) error {
	e.Service = r.role
	return r.recorder.Record(ctx, e)
}

// Commit is [audit.Recorder.Commit].
func (r Recorder) Commit(ctx context.Context, e *auditv1.Event) error {
	e.Service = r.role
	return r.recorder.Commit(ctx, e)
}

// Config fills cfg, which holds the defaults, from the section of the file
// that has the role's name. A field that cfg does not have is an error.
func (e *Env) Config(cfg Validator) error { return e.proc.cfg.Section(e.Role, cfg) }

// Ready adds a check to the process's readiness, under the role's name and this
// one. It must return soon after its context ends.
func (e *Env) Ready(name string, check func(context.Context) error) {
	e.proc.health.add(e.Role, name, check)
}

// Announced adds a check to the process's readiness alone, not to the role's:
// whether the role can be found.
func (e *Env) Announced(check func(context.Context) error) {
	e.proc.health.add("announcement", e.Role, check)
}

// AwaitReady returns nil when all checks of the role pass, and the context's error
// if that is first.
func (e *Env) AwaitReady(ctx context.Context) error { return e.proc.health.await(ctx, e.Role) }

// Conn returns a lazy connection to a role: over memory where this process
// plays it, over mTLS where the file has an address for it. Both have the same
// interceptors and the same encoding; nothing behaves differently.
func (e *Env) Conn(role string) (Conn, error) {
	if h, ok := e.proc.hosts[role]; ok {
		return e.local(h)
	}
	target, ok := e.proc.cfg.Peers[role]
	if !ok {
		return nil, fmt.Errorf("peers.%s: no address, and the role is not played here", role)
	}
	return e.dial(role, target)
}

// InProcess is the prefix of a target that is a role of the same process.
const InProcess = "inproc:"

// Dial returns a lazy connection to a peer at a target that was learnt at run
// time: a gRPC target, or "inproc:<role>". The peer must prove to be the role it
// is dialled as. It is not trusted to send little, see [rpc.Narrow].
func (e *Env) Dial(peer, target string) (Conn, error) {
	role, ok := strings.CutPrefix(target, InProcess)
	if !ok {
		return e.dial(peer, target, rpc.Narrow()...)
	}
	h, ok := e.proc.hosts[role]
	if !ok || role != peer {
		return nil, fmt.Errorf("the role %q is not played in this process", role)
	}
	return e.local(h)
}

// DialProtocol connects to a peer at an address that was learnt at run time, to speak
// what it speaks besides gRPC, see [Speaker]. The peer must prove to be the role. The
// address is a host and a port, or a gRPC target that says no more, dns:///host:port.
func (e *Env) DialProtocol(ctx context.Context, peer, address, protocol string) (net.Conn, error) {
	if !e.proc.cfg.TLS.Enabled() {
		return nil, fmt.Errorf("tls: missing; %s at another process needs an identity", peer)
	}
	return e.proc.cfg.TLS.Dial(ctx, e.Role, peer, strings.TrimPrefix(address, "dns:///"), protocol)
}

func (e *Env) local(h *host) (Conn, error) {
	observer, err := e.proc.observer(e.Role)
	if err != nil {
		return nil, err
	}
	return &local{host: h, caller: e.Role, observer: observer}, nil
}

func (e *Env) dial(peer, target string, opts ...grpc.DialOption) (Conn, error) {
	if !e.proc.cfg.TLS.Enabled() {
		return nil, fmt.Errorf("tls: missing; %s at another process needs an identity", peer)
	}
	creds, err := e.proc.cfg.TLS.Client(e.Role, peer)
	if err != nil {
		return nil, err
	}
	observer, err := e.proc.observer(e.Role)
	if err != nil {
		return nil, err
	}
	return rpc.Dial(target, observer, append(opts, grpc.WithTransportCredentials(creds))...)
}

// Address returns where the role can be reached by its peers: what the file
// advertises, or the address it listens on, or, where it does not listen, its
// place in this process.
func (e *Env) Address() string {
	if a := e.proc.cfg.Advertise[e.Role]; a != "" {
		return a
	}
	if lis := e.proc.listeners[e.Role]; lis != nil {
		return lis.Addr().String()
	}
	return InProcess + e.Role
}

// Reachable returns where other processes can reach the role, for those that find
// each other by NATS: what the file advertises, or the address it listens on, or, if
// that is all of the machine's, the one by which it reaches NATS. It is empty where
// nobody can, or that is not known.
func (e *Env) Reachable() string {
	if a := e.proc.cfg.Advertise[e.Role]; a != "" {
		return a
	}
	lis := e.proc.listeners[e.Role]
	if lis == nil {
		return ""
	}
	at, ok := lis.Addr().(*net.TCPAddr)
	if !ok || !at.IP.IsUnspecified() {
		return lis.Addr().String()
	}
	host := e.proc.bus.Host()
	if host == "" {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(at.Port))
}

// Listen opens a listener for what the role serves besides gRPC: "host:port", or
// "fd:3" for a socket inherited from the parent process.
func (e *Env) Listen(address string) (net.Listener, error) {
	if e.proc.checking {
		address = "127.0.0.1:0" // the address itself may be in use, by what is being checked for
	}
	return listen(address)
}

// host is a role that this process plays. It can be called when started is
// closed: roles are made in no particular order.
type host struct {
	server  rpc.Server
	started chan struct{}
	service Service
}

// local is a connection over memory, made when it is first used.
type local struct {
	host     *host
	caller   string
	observer *rpc.Observer

	once sync.Once
	conn grpc.ClientConnInterface
}

func (l *local) ready(ctx context.Context) (grpc.ClientConnInterface, error) {
	select {
	case <-l.host.started:
	default:
		select {
		case <-l.host.started:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	l.once.Do(func() {
		l.conn = l.host.server.Local(l.caller, l.observer, l.host.service.Register)
	})
	return l.conn, nil
}

// Invoke implements [grpc.ClientConnInterface].
func (l *local) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	conn, err := l.ready(ctx)
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements [grpc.ClientConnInterface].
func (l *local) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, err := l.ready(ctx)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, method, opts...)
}

// Close implements [Conn]. There is nothing to close.
func (*local) Close() error { return nil }
