// Package embed is the NATS server that runs inside a process, for a laptop and
// for tests. Binaries that only dial do not link it.
package embed

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
)

type running struct{ *server.Server }

// Stop implements [bus.Server].
func (r running) Stop() {
	r.Shutdown()
	r.WaitForShutdown()
}

// Start starts a server as cfg says. It implements [bus.Start].
func Start(cfg bus.Config, password string) (bus.Server, error) {
	always, every, err := cfg.SyncPolicy()
	if err != nil {
		return nil, err
	}
	opts := &server.Options{
		ServerName: "sallyport",
		DontListen: cfg.Listen == "",
		JetStream:  true,
		StoreDir:   cfg.Dir,
		SyncAlways: always,
		MaxPayload: 8 << 20,
		NoSigs:     true,
		NoLog:      true,
		Username:   cfg.User,
		Password:   password,
	}
	if !always {
		opts.SyncInterval = every
	}
	if cfg.Listen != "" {
		host, port, err := net.SplitHostPort(cfg.Listen)
		if err != nil {
			return nil, err
		}
		opts.Host = host
		if opts.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("bus.listen: %w", err)
		}
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		srv.Shutdown()
		return nil, fmt.Errorf("embedded NATS did not start on %q (is another process using the port, or %s?)", cfg.Listen, cfg.Dir)
	}
	if !srv.JetStreamEnabled() {
		srv.Shutdown()
		return nil, fmt.Errorf("embedded NATS cannot keep its streams in %s (is another process using it?)", cfg.Dir)
	}
	return running{srv}, nil
}
