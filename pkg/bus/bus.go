// Package bus connects a process to NATS, dialled or embedded: typed notices,
// key-value buckets that are watched, and the audit stream. All names on the
// bus are in subjects.go.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrNotFound says that a key is not in its bucket.
var ErrNotFound = errors.New("bus: no such key")

// ErrExists says that a key to be created is there already.
var ErrExists = errors.New("bus: the key exists")

// ErrConflict says that a key has changed since the revision that was named.
var ErrConflict = errors.New("bus: the key has changed")

// ErrNobody says that nobody takes requests on a subject.
var ErrNobody = errors.New("bus: nobody listens")

// Bus is a connection to NATS. Its methods are safe for concurrent use. It
// reconnects for ever; operations on a broken connection end with their
// context.
type Bus struct {
	log *slog.Logger
	cfg Config
	srv Server // nil when dialled
	nc  *nats.Conn
	js  jetstream.JetStream

	mu      sync.Mutex
	buckets map[string]jetstream.KeyValue
	audit   bool // the stream is known to exist
}

// Server is a NATS server in this process; package embed has it. It is not named
// here, so that a binary that only dials does not link a server.
type Server interface {
	// InProcessConn opens a connection over memory.
	InProcessConn() (net.Conn, error)
	// ClientURL is where other processes reach it.
	ClientURL() string
	// Stop ends it and returns when all is on disk.
	Stop()
}

// Start starts an embedded server with a password for cfg.User.
type Start func(cfg Config, password string) (Server, error)

// Open starts the embedded server if cfg asks for one, and connects. It does not
// wait for a server that is dialled: that may come later. start may be nil in a
// binary that only dials; a nil log discards.
func Open(cfg Config, name string, start Start, log *slog.Logger) (*Bus, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	password, err := cfg.password()
	if err != nil {
		return nil, err
	}
	b := &Bus{log: log, cfg: cfg, buckets: make(map[string]jetstream.KeyValue)}
	opts := []nats.Option{
		nats.Name(name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		nats.Timeout(2 * time.Second),
		nats.DrainTimeout(5 * time.Second),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("bus disconnected", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("bus connected again") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("bus", "err", err) }),
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, password))
	}
	if cfg.Embedded {
		if start == nil {
			return nil, errors.New("bus.embedded: this binary has no NATS server; set bus.embedded: false and bus.url")
		}
		if b.srv, err = start(cfg, password); err != nil {
			return nil, err
		}
		opts = append(opts, nats.InProcessServer(b.srv))
	} else {
		if cfg.CA != "" {
			opts = append(opts, nats.RootCAs(cfg.CA))
		}
		if cfg.Cert != "" {
			opts = append(opts, nats.ClientCert(cfg.Cert, cfg.Key))
		}
	}
	if b.nc, err = nats.Connect(cfg.URL, opts...); err != nil {
		b.stop()
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close ends the connection and stops the embedded server. What was published
// before is flushed.
func (b *Bus) Close() {
	if b.nc != nil {
		_ = b.nc.FlushTimeout(time.Second) // a broken connection has nothing to flush
		b.nc.Close()
	}
	b.stop()
}

func (b *Bus) stop() {
	if b.srv != nil {
		b.srv.Stop()
	}
}

// URL returns where other processes reach the embedded server, or what was
// dialled; without credentials.
func (b *Bus) URL() string {
	if b.srv == nil {
		return b.cfg.URL
	}
	if b.cfg.Listen == "" {
		return ""
	}
	return b.srv.ClientURL()
}

// Dialled reports whether the server is another process.
func (b *Bus) Dialled() bool { return b.srv == nil }

// Host is the address by which this machine is connected to NATS: a good guess for how
// other clients of that can reach it. It is empty where the server is our own.
func (b *Bus) Host() string {
	if !b.Dialled() {
		return ""
	}
	host, _, err := net.SplitHostPort(b.nc.LocalAddr())
	if err != nil { // not connected just now
		return ""
	}
	return host
}

// Conn returns the connection, for what this package does not offer.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// JetStream returns the JetStream context.
func (b *Bus) JetStream() jetstream.JetStream { return b.js }

// Check reports whether the server answers, for readiness.
func (b *Bus) Check(ctx context.Context) error {
	if b.nc.Status() != nats.CONNECTED {
		return errors.New("NATS is not connected")
	}
	return b.nc.FlushWithContext(ctx)
}
