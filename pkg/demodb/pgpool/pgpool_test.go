//go:build postgres

package pgpool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport-mcp/sallyport/pkg/demodb/pgpool"
	"github.com/sallyport-mcp/sallyport/pkg/demodb/pgtest"
)

func config(t *testing.T, dsn string) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func closing(t *testing.T, p *pgpool.Pool) *pgpool.Pool {
	t.Helper()
	t.Cleanup(func() {
		if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

func TestPool(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Start(t)
	pgtest.Exec(t, dsn, "CREATE TABLE t (n int)")

	t.Run("nothing passes from one use to the next", func(t *testing.T) {
		p := closing(t, pgpool.New(config(t, dsn), 1, nil))
		var first uint32
		if err := p.Do(t.Context(), func(c *pgx.Conn) error {
			first = c.PgConn().PID()
			_, err := c.PgConn().Exec(t.Context(), "SET work_mem = '1MB'; SELECT pg_advisory_lock(7); BEGIN; INSERT INTO t VALUES (1)").ReadAll()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := p.Do(t.Context(), func(c *pgx.Conn) error {
			var locks, rows int
			var mem string
			if err := c.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM t), current_setting('work_mem')").Scan(&locks, &rows, &mem); err != nil {
				return err
			}
			if locks != 0 || rows != 0 || mem == "1MB" {
				t.Errorf("got %d locks, %d rows, work_mem %s; want none, none, the default", locks, rows, mem)
			}
			if pid := c.PgConn().PID(); pid != first {
				t.Errorf("got another connection, want the same one")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("a dead connection is replaced", func(t *testing.T) {
		p := closing(t, pgpool.New(config(t, dsn), 1, nil))
		var pid uint32
		use := func(c *pgx.Conn) error {
			pid = c.PgConn().PID()
			return c.Ping(t.Context())
		}
		if err := p.Do(t.Context(), use); err != nil {
			t.Fatal(err)
		}
		killer := closing(t, pgpool.New(config(t, dsn), 1, nil))
		old := pid
		if err := killer.Do(t.Context(), func(c *pgx.Conn) error {
			var gone bool
			return c.QueryRow(t.Context(), "SELECT pg_terminate_backend($1, 5000)", int64(old)).Scan(&gone)
		}); err != nil {
			t.Fatal(err)
		}
		if err := p.Do(t.Context(), use); err != nil {
			t.Fatalf("Do after the server closed the connection: %v", err)
		}
		if pid == old {
			t.Error("got the dead connection again")
		}
	})

	t.Run("the deadline ends the work and the wait", func(t *testing.T) {
		p := closing(t, pgpool.New(config(t, dsn), 1, nil))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := p.Do(ctx, func(c *pgx.Conn) error {
			_, err := c.PgConn().Exec(ctx, "SELECT pg_sleep(60)").ReadAll()
			return err
		})
		if err == nil {
			t.Fatal("got no error from a sleep longer than the deadline")
		}
		if err := p.Do(ctx, func(*pgx.Conn) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do with an ended context: got %v, want deadline exceeded", err)
		}
		if err := p.Do(t.Context(), func(c *pgx.Conn) error { return c.Ping(t.Context()) }); err != nil {
			t.Errorf("Do after a cancelled one: %v", err)
		}
	})

	t.Run("a connection that fails its check is not used", func(t *testing.T) {
		refused := errors.New("refused")
		p := closing(t, pgpool.New(config(t, dsn), 1, func(context.Context, *pgx.Conn) error { return refused }))
		err := p.Do(t.Context(), func(*pgx.Conn) error {
			t.Error("used a refused connection")
			return nil
		})
		if !errors.Is(err, pgpool.ErrConnect) || !errors.Is(err, refused) {
			t.Errorf("Do: got %v, want ErrConnect because of the check", err)
		}
	})
}

func TestPoolWithoutServer(t *testing.T) {
	t.Parallel()
	p := closing(t, pgpool.New(config(t, "postgres://x@127.0.0.1:1/x?connect_timeout=1"), 2, nil))
	for range 3 { // more often than there are slots: none may be lost
		err := p.Do(t.Context(), func(*pgx.Conn) error { return nil })
		if !errors.Is(err, pgpool.ErrConnect) {
			t.Fatalf("Do: got %v, want ErrConnect", err)
		}
	}
}
