// Package postgres runs untrusted queries on PostgreSQL so that they can read
// what their role may read, and change nothing.
//
// What a query may read is decided from its parse tree, see package pgguard, and
// only what that has written is run. Should it let something through, the
// server's own boundary holds, in three parts:
//
//   - The role. It may read the listed tables and no more; [ReaderSQL] creates
//     such a role. Each new connection checks its role and is refused if the
//     role could write or call functions with lasting effects (advisory locks,
//     notifications, large objects, signals and the like): a read-only
//     transaction does not hinder those.
//   - The statement. A query is only ever the body of DECLARE … CURSOR FOR, sent
//     by the extended protocol. The server's grammar takes nothing there but one
//     query, refuses WITH clauses that write and SELECT INTO, and so a COMMIT
//     that would end the transaction is a syntax error.
//   - The transaction. It is READ ONLY, has a time limit, and is rolled back;
//     then the session is discarded.
//
// A query that the server's planner thinks too dear is not run. A limit on the
// memory of the server does not exist, apart from its own configuration.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-mcp/sallyport/pkg/demodb/pgpool"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/pgguard"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/table"
)

// batch is how many rows are fetched at once. Once the table is full, the rest
// of a batch is thrown away.
const batch = 100

// Config says where to query, and how much.
type Config struct {
	Conn        *pgx.ConnConfig
	Connections int // as many queries run at once
	MaxMessage  int // bytes of a single message of the server, such as a row
	Timeout     time.Duration
	Functions   []string // that may be called; none are those of pgguard
	MaxCost     int      // in the planner's units; 0 is no limit
	Limits      table.Limits
}

// DB runs queries on one server. Its methods are safe for concurrent use.
type DB struct {
	cfg   Config
	guard *pgguard.Guard
	pool  *pgpool.Pool
}

// Open returns a DB, which connects when it is first used.
func Open(cfg Config) *DB {
	c := cfg.Conn.Copy()
	c.MaxProtocolMessageBodyLen = cfg.MaxMessage
	// Values come as text, so their form must not depend on the server.
	c.RuntimeParams["timezone"] = "UTC"
	c.RuntimeParams["datestyle"] = "ISO, YMD"
	c.RuntimeParams["intervalstyle"] = "iso_8601"
	c.RuntimeParams["bytea_output"] = "hex"
	c.RuntimeParams["client_encoding"] = "UTF8"
	// The guard reads texts and names in one way only.
	c.RuntimeParams["search_path"] = "pg_catalog"
	c.RuntimeParams["standard_conforming_strings"] = "on"
	c.RuntimeParams["application_name"] = "sallyport sqlquery"
	return &DB{cfg: cfg, guard: pgguard.New(cfg.Functions), pool: pgpool.New(c, cfg.Connections, checkRole)}
}

// Ping reports whether the server can be queried with a role that is harmless.
func (d *DB) Ping(ctx context.Context) error {
	_, err := d.Query(ctx, access.Scope{}, "SELECT 1", nil)
	return err
}

// Query runs one query that may read what is in the scope. Its errors are
// faults, or that of a context which ended by cancellation.
func (d *DB) Query(ctx context.Context, scope access.Scope, query string, args []any) (*table.Table, error) {
	q, err := d.guard.Parse(query, scope)
	if err != nil {
		return nil, err
	}
	t := table.New(d.cfg.Limits)
	err = d.pool.Do(ctx, func(conn *pgx.Conn) error {
		return d.query(ctx, conn.PgConn(), q, args, t)
	})
	if err != nil {
		return nil, explain(ctx, err)
	}
	return t, nil
}

// Close closes all connections, waiting for queries that run until ctx ends.
func (d *DB) Close(ctx context.Context) error { return d.pool.Close(ctx) }

// query leaves the end of the transaction to the pool.
func (d *DB) query(ctx context.Context, conn *pgconn.PgConn, q *pgguard.Query, args []any, t *table.Table) error {
	ms := d.cfg.Timeout.Milliseconds()
	begin := fmt.Sprintf("BEGIN READ ONLY; SET LOCAL statement_timeout = %d; SET LOCAL lock_timeout = %d; "+
		"SET LOCAL idle_in_transaction_session_timeout = %d; SET LOCAL cursor_tuple_fraction = 1", ms, ms, 2*ms)
	if _, err := conn.Exec(ctx, begin).ReadAll(); err != nil {
		return err
	}
	columns, err := lookUp(ctx, conn, q.Tables())
	if err != nil {
		return err
	}
	query, err := q.SQL(columns)
	if err != nil {
		return err
	}
	values, types := bind(args)
	if err := d.estimate(ctx, conn, query, values, types); err != nil {
		return err
	}
	declare := conn.ExecParams(ctx, "DECLARE sallyport NO SCROLL CURSOR WITHOUT HOLD FOR\n"+query, values, types, nil, nil).Read()
	if declare.Err != nil {
		return declare.Err
	}
	for {
		n, more, err := fetch(ctx, conn, t)
		if err != nil || !more || n < batch {
			return err
		}
	}
}

// fetch reads the next rows into t. It returns how many came, and whether t took
// them all.
func fetch(ctx context.Context, conn *pgconn.PgConn, t *table.Table) (n int, more bool, err error) {
	rows := conn.ExecParams(ctx, "FETCH FORWARD "+strconv.Itoa(batch)+" FROM sallyport", nil, nil, nil, nil)
	more = true
	for ; rows.NextRow(); n++ {
		if !more || err != nil {
			continue // the connection is only good again when all is read
		}
		columns := rows.FieldDescriptions()
		row := make([]*structpb.Value, len(columns))
		for i, text := range rows.Values() {
			row[i] = value(text, columns[i].DataTypeOID)
		}
		more, err = t.Add(row)
	}
	columns := rows.FieldDescriptions()
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	t.Name(names)
	_, closeErr := rows.Close()
	return n, more, errors.Join(err, closeErr)
}
