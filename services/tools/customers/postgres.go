package customers

import (
	"context"
	_ "embed" // for writer.sql
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport-mcp/sallyport/pkg/demodb/pgpool"
)

//go:embed writer.sql
var writerSQL string

// WriterSQL returns the script that a PostgreSQL superuser runs once to create
// the role that this service logs in with.
func WriterSQL() string { return writerSQL }

type postgresStore struct{ pool *pgpool.Pool }

func openPostgres(cfg *pgx.ConnConfig, connections int) store {
	cfg = cfg.Copy()
	cfg.RuntimeParams["application_name"] = "sallyport customers"
	return postgresStore{pgpool.New(cfg, connections, nil)}
}

func (s postgresStore) get(ctx context.Context, id int32) (customer, error) {
	var c customer
	err := s.pool.Do(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT name, email, country, plan, created::text,
			(SELECT count(*)::int FROM orders WHERE customer_id = c.id) FROM customers c WHERE id = $1`, id).
			Scan(&c.name, &c.email, &c.country, &c.plan, &c.created, &c.orders)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return customer{}, errUnknown
	}
	if err != nil {
		return customer{}, fmt.Errorf("read customer: %w", err)
	}
	return c, nil
}

func (s postgresStore) remove(ctx context.Context, id int32) (orders int32, err error) {
	err = s.pool.Do(ctx, func(conn *pgx.Conn) error {
		// Any error rolls back; so does the pool, should even that fail.
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			// The lock keeps new orders from coming in between.
			tag, err := tx.Exec(ctx, "SELECT 1 FROM customers WHERE id = $1 FOR UPDATE", id)
			if err != nil {
				return fmt.Errorf("lock customer: %w", err)
			}
			if tag.RowsAffected() == 0 {
				return errUnknown
			}
			if tag, err = tx.Exec(ctx, "DELETE FROM orders WHERE customer_id = $1", id); err != nil {
				return fmt.Errorf("delete orders: %w", err)
			}
			orders = int32(tag.RowsAffected())
			if tag, err = tx.Exec(ctx, "DELETE FROM customers WHERE id = $1", id); err != nil {
				return fmt.Errorf("delete customer: %w", err)
			}
			if tag.RowsAffected() == 0 {
				return errUnknown
			}
			return nil
		})
	})
	return orders, err
}

func (s postgresStore) ping(ctx context.Context) error {
	return s.pool.Do(ctx, func(conn *pgx.Conn) error { return conn.Ping(ctx) })
}

func (s postgresStore) close(ctx context.Context) error { return s.pool.Close(ctx) }
