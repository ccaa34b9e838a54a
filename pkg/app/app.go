// Package app turns services into processes.
//
// A service package exports one [Role]. A main function lists the roles its
// process shall play, one or all:
//
//	func main() { app.Main(quota.Role) }
//
// Roles reach each other through [Env.Conn], and cannot tell whether the
// other side is in the same process or across the network.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// A Role is a service as seen by the process that plays it.
type Role struct {
	// Name is the name of the role in the configuration file, in certificates
	// and in [Env.Conn].
	Name string
	// Allow lists, for each gRPC service of the role, which roles may call it.
	// A role that lists none serves nobody over gRPC: it is a front, stopped
	// first.
	Allow map[string][]string
	// Isolated says that the role's handlers are not to be trusted to heed their
	// contexts: see [rpc.Server].
	Isolated bool
	// New builds the service from its part of the configuration. It must not
	// block: connections are lazy, and roles start in no particular order.
	New func(*Env) (Service, error)
}

// A Service is what a role consists of.
type Service interface {
	// Register adds the gRPC services that the role serves, if any. It may be
	// called more than once.
	Register(grpc.ServiceRegistrar)
	// Run does the work that no request starts, and returns when ctx is done.
	// Calls may still arrive until it has returned.
	Run(ctx context.Context) error
}

// A Speaker is a service that speaks more than gRPC on its port.
type Speaker interface {
	Service
	Protocols() []rpc.Protocol
}

// Main plays the given roles until the process is told to stop. It is the
// whole body of a main function.
func Main(roles ...Role) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := Command(ctx, os.Args[1:], os.Stdout, os.Stderr, nil, roles...)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

// Command is Main for programs that have more than roles: it takes its
// arguments and returns its error. start is for an embedded NATS server and may
// be nil.
func Command(ctx context.Context, args []string, stdout, stderr io.Writer, start bus.Start, roles ...Role) error {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(stderr)
	file := fs.String("config", "", "configuration `file`")
	check := fs.Bool("check", false, "check the configuration and exit")
	version := fs.Bool("version", false, "print the version and exit")
	probe := fs.String("probe", "", "ask `url` (http://host:port/readyz) whether a process is ready, and exit")
	readyFD := fs.Int("ready-fd", 0, "write one line of JSON to this file `descriptor` when ready")
	var set setFlags
	fs.Var(&set, "set", "override `path.to.key=value` of the configuration; may be repeated")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q; settings are in the file named by -config", errUsage, fs.Arg(0))
	}
	switch {
	case *version:
		fmt.Fprintln(stdout, Version())
		return nil
	case *probe != "":
		return ask(ctx, *probe)
	}
	cfg, err := Load(*file, set...)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: cfg.Log}))
	CollectLess()
	opts := Options{Config: cfg, Log: log, StartBus: start, CheckOnly: *check}
	if *readyFD > 0 {
		opts.Ready = announceTo(*readyFD)
	}
	return Run(ctx, opts, roles...)
}

type setFlags []string

func (s *setFlags) String() string { return strings.Join(*s, " ") }

func (s *setFlags) Set(v string) error {
	*s = append(*s, v)
	return nil
}

// ask is a health probe for images that hold nothing but the binary.
func ask(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read or not, it is over
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready:\n%s", body)
	}
	return nil
}

// CollectLess makes the garbage collector wait until the heap has grown fivefold,
// unless GOGC says otherwise: our heaps are small, and this saves a sixth of the
// CPU of a call (decision 8).
func CollectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// Version returns the version of the program: the module's, and the commit it
// was built from if that is known.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(v, s.Value[:min(12, len(s.Value))]) {
			v += "+" + s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
