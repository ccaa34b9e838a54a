package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/supervise"
)

// system is the whole as processes.
type system struct {
	cfg    app.Config
	file   string // the configuration of all processes
	logs   string
	self   string
	log    *slog.Logger
	nats   *supervise.Process
	edges  []*supervise.Process
	others []*supervise.Process
}

// runProcesses runs every role as a process of its own until ctx is done.
func runProcesses(ctx context.Context, cfg app.Config, counts map[string]int, stderr io.Writer, shown func(instance.Instance) error) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s := &system{
		cfg: cfg, self: self, file: runConfig(cfg.StateDir), logs: filepath.Join(cfg.StateDir, "logs"),
		log: slog.New(slog.NewTextHandler(stderr, nil)),
	}
	if err := os.MkdirAll(s.logs, 0o700); err != nil {
		return err
	}
	defer s.stop()
	if err := s.start(ctx, counts); err != nil {
		return err
	}
	keys, err := s.demoKeys(ctx)
	if err != nil {
		return err
	}
	if err := shown(s.instance(keys)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (s *system) start(ctx context.Context, counts map[string]int) (err error) {
	wanted := s.cfg.Listen
	s.cfg.Listen, s.cfg.Peers = nil, make(map[string]string)
	if s.cfg.Bus.Embedded {
		if err := s.startNATS(ctx); err != nil {
			return err
		}
	}
	// Every role gets a socket before any process starts, so that one file tells
	// all of them where the others are, and nobody else can take a port meanwhile.
	var others []replica
	defer func() {
		if err != nil {
			for _, r := range others {
				_ = r.socket.Close() // closed already where it was handed over
			}
		}
	}()
	for _, r := range startedRoles(s.cfg) {
		if r.Name == edge.Role.Name {
			continue
		}
		n := max(counts[r.Name], 1)
		var addresses []string
		for i := range n {
			wish := wanted[r.Name]
			if i > 0 { // the first has the address that was asked for
				wish = ""
			}
			if wish == "" {
				wish = "127.0.0.1:0"
			}
			socket, err := net.Listen("tcp", wish)
			if err != nil {
				return fmt.Errorf("listen.%s: %w", r.Name, err)
			}
			addresses = append(addresses, socket.Addr().String())
			others = append(others, newReplica(r.Name, i, n, socket))
		}
		s.cfg.Peers[r.Name] = strings.Join(addresses, ",")
	}
	if err := saveConfig(s.cfg, s.file); err != nil {
		return err
	}
	edgeCfg := edge.DefaultConfig()
	if err := s.cfg.Section(edge.Role.Name, &edgeCfg); err != nil {
		return err
	}
	var g errgroup.Group
	s.others = make([]*supervise.Process, len(others))
	for i, r := range others {
		g.Go(func() (err error) {
			spec := s.spec(r.name, r.role, "listen."+r.role)
			spec.Socket = r.socket
			s.others[i], err = supervise.Start(ctx, spec, s.log, nil)
			return err
		})
	}
	s.edges = make([]*supervise.Process, max(counts[edge.Role.Name], 1))
	for i := range s.edges {
		g.Go(func() (err error) {
			address := edgeCfg.Listen
			if i > 0 { // the first has the address that was asked for
				host, _, err := net.SplitHostPort(address)
				if err != nil {
					return fmt.Errorf("roles.edge.listen: %w", err)
				}
				address = net.JoinHostPort(host, "0")
			}
			spec := s.spec(fmt.Sprintf("edge-%d", i+1), edge.Role.Name, "roles.edge.listen")
			spec.Listen = address
			s.edges[i], err = supervise.Start(ctx, spec, s.log, nil)
			return err
		})
	}
	return g.Wait()
}

// replica is one process of a role.
type replica struct {
	role, name string
	socket     net.Listener
}

// newReplica makes the i-th of n.
func newReplica(role string, i, n int, socket net.Listener) replica {
	r := replica{role: role, name: role, socket: socket}
	if n > 1 {
		r.name = fmt.Sprintf("%s-%d", role, i+1)
	}
	return r
}

// startNATS starts the server, and makes the configuration of the others dial it.
// The port it gets is then written down for when it has to be started again.
func (s *system) startNATS(ctx context.Context) (err error) {
	file := filepath.Join(filepath.Dir(s.file), "nats.yaml")
	cfg := s.cfg
	if cfg.Bus.Listen == "" {
		cfg.Bus.Listen = "127.0.0.1:0"
	}
	if err := saveConfig(cfg, file); err != nil {
		return err
	}
	if s.nats, err = supervise.Start(ctx, supervise.Spec{
		Name: "nats", Program: s.self, LogFile: filepath.Join(s.logs, "nats.log"),
		Args: []string{"run", "nats", "-config", file, "-ready-fd", "{ready}", "-set", "node=nats", "-set", "admin=127.0.0.1:0"},
	}, s.log, nil); err != nil {
		return err
	}
	cfg.Bus.Listen = strings.TrimPrefix(s.nats.Ready().NATSURL, "nats://")
	if err := saveConfig(cfg, file); err != nil {
		return err
	}
	s.cfg.Bus.Embedded, s.cfg.Bus.Listen, s.cfg.Bus.URL = false, "", s.nats.Ready().NATSURL
	return nil
}

// spec is how a process of a role is started, without its socket; key is what in
// its configuration says where it listens.
func (s *system) spec(name, role, key string) supervise.Spec {
	args := []string{"run", role, "-config", s.file, "-ready-fd", "{ready}"}
	for _, v := range []string{"node=" + name, "admin=127.0.0.1:0", key + "=fd:{socket}"} {
		args = append(args, "-set", v)
	}
	return supervise.Spec{Name: name, Program: s.self, LogFile: filepath.Join(s.logs, name+".log"), Args: args}
}

func (s *system) demoKeys(ctx context.Context) (map[string]string, error) {
	creds, err := s.cfg.TLS.Client(operatorRole, "auth")
	if err != nil {
		return nil, err
	}
	conn, err := rpc.Dial(s.cfg.Peers["auth"], nil, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // it was for this alone
	return ensureDemoKeys(ctx, s.cfg.StateDir, conn)
}

func (s *system) instance(keys map[string]string) instance.Instance {
	i := instance.Instance{StateDir: s.cfg.StateDir, Keys: keys, Peers: make(map[string]string)}
	for _, role := range operatorPeers {
		i.Peers[role] = s.cfg.Peers[role]
	}
	add := func(p *supervise.Process, address string) {
		if p != nil {
			i.Processes = append(i.Processes, instance.Process{Name: p.Name, PID: p.PID(), Address: address, AdminURL: p.Ready().AdminURL})
		}
	}
	for _, p := range s.edges {
		i.MCPURLs = append(i.MCPURLs, "http://"+p.Listen+"/mcp")
		add(p, p.Listen)
	}
	i.MCPURL, i.AdminURL = i.MCPURLs[0], s.edges[0].Ready().AdminURL
	for _, p := range s.others {
		if p != nil {
			add(p, p.Listen)
		}
	}
	if s.nats != nil {
		add(s.nats, strings.TrimPrefix(s.nats.Ready().NATSURL, "nats://"))
	}
	// The password is in a file that we made or were given; without it the bare
	// address is still worth telling.
	if i.NATSURL = s.cfg.Bus.URL; s.nats != nil {
		if url, err := natsURL(s.cfg, s.cfg.Bus.URL); err == nil {
			i.NATSURL = url
		}
	}
	return i
}

// stop stops the edges first, which finish what is in flight, then what they
// call, then the bus.
func (s *system) stop() {
	for _, group := range [][]*supervise.Process{s.edges, s.others, {s.nats}} {
		var running []*supervise.Process
		for _, p := range group {
			if p != nil {
				running = append(running, p)
			}
		}
		supervise.StopAll(running)
	}
}
