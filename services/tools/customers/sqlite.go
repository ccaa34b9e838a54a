package customers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
)

// sqliteOptions of each connection: never create the file; wait for readers in
// other processes rather than fail; take the lock to write at the beginning of a
// transaction, where waiting for it cannot deadlock.
//
// The journal stays what the file has. The demo database has a rollback
// journal, since other processes open it read-only, which a write-ahead log
// makes harder.
const sqliteOptions = "mode=rw&_defensive=1&_dqs=0&_foreign_keys=1&_busy_timeout=60000&_txlock=immediate"

type sqliteStore struct{ db *sql.DB }

func openSQLite(path string, connections int) store {
	db := sql.OpenDB(demodb.Connector(path, sqliteOptions))
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return sqliteStore{db}
}

func (s sqliteStore) get(ctx context.Context, id int32) (customer, error) {
	var c customer
	err := s.db.QueryRowContext(ctx, `SELECT name, email, country, plan, created,
		(SELECT count(*) FROM orders WHERE customer_id = c.id) FROM customers c WHERE id = ?`, id).
		Scan(&c.name, &c.email, &c.country, &c.plan, &c.created, &c.orders)
	if errors.Is(err, sql.ErrNoRows) {
		return customer{}, errUnknown
	}
	if err != nil {
		return customer{}, fmt.Errorf("read customer: %w", err)
	}
	return c, nil
}

func (s sqliteStore) remove(ctx context.Context, id int32) (orders int32, err error) {
	tx, err := s.db.BeginTx(ctx, nil) // rolled back when ctx ends
	if err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	defer func() {
		if err != nil {
			if e := tx.Rollback(); e != nil && !errors.Is(e, sql.ErrTxDone) {
				err = errors.Join(err, e)
			}
		}
	}()
	deleted, err := affected(tx.ExecContext(ctx, "DELETE FROM orders WHERE customer_id = ?", id))
	if err != nil {
		return 0, fmt.Errorf("delete orders: %w", err)
	}
	found, err := affected(tx.ExecContext(ctx, "DELETE FROM customers WHERE id = ?", id))
	if err != nil {
		return 0, fmt.Errorf("delete customer: %w", err)
	}
	if found == 0 {
		return 0, errUnknown
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	return int32(deleted), nil
}

func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (s sqliteStore) ping(ctx context.Context) error {
	// Reading, not only opening: a file that is no database opens well.
	var n int
	if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM customers WHERE id = 0").Scan(&n); err != nil {
		return fmt.Errorf("read customers: %w", err)
	}
	return nil
}

// close waits for running statements, which end within their contexts.
func (s sqliteStore) close(context.Context) error { return s.db.Close() }
