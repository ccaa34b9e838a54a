// Package pgpool keeps a few connections to PostgreSQL for one service.
//
// It is smaller than a general pool on purpose: what it adds is that a
// connection never carries anything from one user to the next. After each use
// the transaction is rolled back and the session discarded, else the
// connection is closed.
package pgpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// cleanup is how long the end of a use may take. It does not depend on the
// caller's context, which has often ended by then.
const cleanup = 2 * time.Second

// ErrConnect is wrapped by errors that say that there was no connection to use.
var ErrConnect = errors.New("no connection to PostgreSQL")

// Pool is a bounded set of connections, opened when first needed. Its methods
// are safe for concurrent use.
type Pool struct {
	cfg   *pgx.ConnConfig
	check func(context.Context, *pgx.Conn) error
	slots chan *pgx.Conn // always size in number, here or in use; nil is not yet open
}

// New returns a pool of at most size connections. Check, unless nil, judges each
// new connection; one that it refuses is closed and not used.
func New(cfg *pgx.ConnConfig, size int, check func(context.Context, *pgx.Conn) error) *Pool {
	cfg = cfg.Copy()
	// Cancelling by a request, rather than by breaking the connection, also
	// ends the work on the server.
	cfg.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: time.Second}
	}
	// Sessions are discarded, and prepared statements with them.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	p := &Pool{cfg: cfg, check: check, slots: make(chan *pgx.Conn, size)}
	for range size {
		p.slots <- nil
	}
	return p
}

// Do waits for a connection and calls use with it. The connection must not be
// kept.
func (p *Pool) Do(ctx context.Context, use func(*pgx.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var conn *pgx.Conn
	select {
	case conn = <-p.slots:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { p.slots <- conn }()

	if conn != nil && !alive(ctx, conn) {
		p.close(ctx, conn)
		conn = nil
	}
	if conn == nil {
		fresh, err := p.connect(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrConnect, err)
		}
		conn = fresh
	}
	// Also when use panics: an open transaction must not reach the next user.
	defer func() {
		if !p.reset(ctx, conn) {
			conn = nil
		}
	}()
	return use(conn)
}

// Close closes all connections, waiting for those in use until ctx ends. No
// call of [Pool.Do] gets a connection afterwards.
func (p *Pool) Close(ctx context.Context) error {
	for range cap(p.slots) {
		select {
		case conn := <-p.slots:
			if conn != nil {
				p.close(ctx, conn)
			}
		case <-ctx.Done():
			return fmt.Errorf("close connections: %w", ctx.Err())
		}
	}
	return nil
}

func (p *Pool) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, p.cfg)
	if err != nil {
		return nil, err
	}
	if p.check != nil {
		if err := p.check(ctx, conn); err != nil {
			p.close(ctx, conn)
			return nil, err
		}
	}
	return conn, nil
}

// alive reports whether the server answers. A round trip is cheap beside those
// of a query in a transaction, and a server that was restarted is a fact of life.
func alive(ctx context.Context, conn *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, cleanup)
	defer cancel()
	return conn.Ping(ctx) == nil
}

// reset makes conn as good as new, or closes it and returns false.
func (p *Pool) reset(ctx context.Context, conn *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	if conn.PgConn().TxStatus() != 'I' {
		if _, err := conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
			p.close(ctx, conn)
			return false
		}
	}
	if _, err := conn.PgConn().Exec(ctx, "DISCARD ALL").ReadAll(); err != nil {
		p.close(ctx, conn)
		return false
	}
	return true
}

// close ends a connection. An error means that the server has ended it before.
func (p *Pool) close(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	_ = conn.Close(ctx)
}
