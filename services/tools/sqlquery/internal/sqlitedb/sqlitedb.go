// Package sqlitedb runs untrusted queries on a SQLite file so that they can
// read the tables they may read, and do nothing else.
//
// The engine itself is the guard, in layers that do not depend on each other:
//
//   - The file is opened read-only, and under a name that no query can know:
//     what connections call main is an empty database.
//   - Tables of which only a part is visible are read through views alone. See
//     veil.go.
//   - An authorizer, asked by SQLite while it compiles a statement, denies
//     everything but SELECT, reading the listed tables, and the listed
//     functions. See guard.go.
//   - The compiled program is read before it runs, and may open the b-trees of
//     the listed tables only. This closes a gap of the authorizer, which is not
//     asked for the columns of JOIN … USING and NATURAL JOIN. See program.go.
//   - Before all that, the query is compiled on an empty database that has only
//     what its caller may see, so that messages tell of nothing else. See
//     shadow.go.
//   - Limits bound the size of values, of statements, of programs and of
//     temporary files; the context bounds time.
//
// The text of a query is never searched for bad words.
package sqlitedb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/table"
)

// cleanup is how long the end of a query may take after its context ended.
const cleanup = time.Second

// options of each connection. Pragmas run before the authorizer is in place,
// which then denies all others. DQS off makes a misspelt column an error and
// not a string.
const options = "mode=memory&_defensive=1&_dqs=0&_query_only=1&_busy_timeout=2000" +
	"&_pragma=trusted_schema(0)&_pragma=cell_size_check(1)&_pragma=mmap_size(0)"

// Config says what may be read, and how much.
type Config struct {
	Path        string
	Functions   []string // what may be called
	Connections int      // as many queries run at once
	MaxValue    int      // bytes of a single value, also in between
	MaxSpill    int64    // bytes in temporary files, of all queries together
	Limits      table.Limits
}

// DB runs queries on one file. Its methods are safe for concurrent use.
type DB struct {
	cfg       Config
	functions map[string]bool
	sessions  chan *session
}

// session is a connection with its guard. It is used by one query at a time.
type session struct {
	db     *sql.DB // of one connection
	guard  *guard
	shadow *shadow // of the last query; nil before the first
}

// Open returns a DB for the file, which need not exist until it is queried.
func Open(cfg Config) *DB {
	d := &DB{cfg: cfg, functions: set(cfg.Functions), sessions: make(chan *session, cfg.Connections)}
	for range cfg.Connections {
		g := &guard{file: "f" + rand.Text()}
		db := sql.OpenDB(guarded{demodb.Connector("main", options), g, demodb.URI(cfg.Path, "mode=ro")})
		db.SetMaxOpenConns(1)
		d.sessions <- &session{db: db, guard: g}
	}
	return d
}

// Ping reports whether the file can be read.
func (d *DB) Ping(ctx context.Context) error {
	_, err := d.Query(ctx, access.Scope{}, "SELECT 1", nil)
	return err
}

// Query runs one query that may read what is in the scope. Its errors are
// faults, or that of a context which ended by cancellation.
func (d *DB) Query(ctx context.Context, scope access.Scope, query string, args []any) (*table.Table, error) {
	policy := newPolicy(scope, d.functions)
	if err := checkText(query, len(args)); err != nil {
		return nil, err
	}
	select {
	case s := <-d.sessions:
		defer func() { d.sessions <- s }()
		s.guard.policy, s.guard.refused = policy, ""
		ctx, stop := watchSpill(ctx, d.cfg.MaxSpill)
		defer stop()
		t, err := d.query(ctx, s, scope, query, args)
		if err != nil || s.guard.refused != "" {
			return nil, s.guard.explain(ctx, err)
		}
		return t, nil
	case <-ctx.Done():
		return nil, timeout(ctx.Err())
	}
}

// Close closes all connections, waiting for queries that run until ctx ends.
func (d *DB) Close(ctx context.Context) error {
	var errs []error
	for range d.cfg.Connections {
		select {
		case s := <-d.sessions:
			errs = append(errs, s.db.Close())
			if s.shadow != nil {
				errs = append(errs, s.shadow.db.Close())
			}
		case <-ctx.Done():
			return errors.Join(append(errs, ctx.Err())...)
		}
	}
	return errors.Join(errs...)
}

func (d *DB) query(ctx context.Context, s *session, scope access.Scope, query string, args []any) (_ *table.Table, err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := d.limit(conn); err != nil {
		return nil, err
	}
	// One snapshot for the schema, the check of the program, and its run.
	if err := s.guard.trusted(func() error { _, err := conn.ExecContext(ctx, "BEGIN"); return err }); err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
		defer cancel()
		if e := s.guard.trusted(func() error { _, err := conn.ExecContext(ctx, "ROLLBACK"); return err }); e != nil {
			// Nothing to lose in a transaction that only read: drop the connection.
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}()
	h, err := d.follow(ctx, s, conn, scope)
	if err != nil {
		return nil, err
	}
	seen, err := h.try(ctx, query, args)
	if err != nil {
		return nil, err
	}
	if err := s.veil(ctx, conn, scope, h.tables); err != nil {
		return nil, err
	}
	width, err := s.checkProgram(ctx, conn, query, args)
	switch e, ok := errors.AsType[*sqlite.Error](err); {
	case ok && s.guard.refused == "" && e.Code()&0xff == sqlite3.SQLITE_ERROR, err == nil && width != seen:
		return nil, h.unlike()
	case err != nil:
		return nil, err
	}
	return d.run(ctx, conn, query, args)
}

func (d *DB) run(ctx context.Context, conn *sql.Conn, query string, args []any) (_ *table.Table, err error) {
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(types))
	for i, c := range types {
		names[i] = c.Name()
	}
	t := table.New(d.cfg.Limits)
	t.Name(names)

	values := make([]any, len(types))
	into := make([]any, len(types))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := make([]*structpb.Value, len(values))
		for i, v := range values {
			row[i] = value(v, types[i])
		}
		if more, err := t.Add(row); err != nil || !more {
			return t, err
		}
	}
	return t, rows.Err()
}

func value(v any, column *sql.ColumnType) *structpb.Value {
	switch v := v.(type) {
	case int64:
		return table.Int(v)
	case float64:
		return table.Float(v)
	case bool:
		return structpb.NewBoolValue(v)
	case string:
		return table.Text([]byte(v))
	case []byte:
		return table.Text(v)
	case time.Time:
		if column.DatabaseTypeName() == "DATE" {
			return structpb.NewStringValue(v.Format(time.DateOnly))
		}
		return table.Time(v)
	}
	return structpb.NewNullValue()
}

// limit sets the limits of a connection. They stay with it, but setting them
// each time is cheaper than knowing whether it is new.
func (d *DB) limit(conn *sql.Conn) error {
	for _, l := range []struct{ id, to int }{
		{sqlite3.SQLITE_LIMIT_LENGTH, d.cfg.MaxValue},
		{sqlite3.SQLITE_LIMIT_SQL_LENGTH, 64 << 10},
		{sqlite3.SQLITE_LIMIT_COLUMN, 256},
		{sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100},
		{sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 50},
		{sqlite3.SQLITE_LIMIT_VDBE_OP, 25000},
		{sqlite3.SQLITE_LIMIT_FUNCTION_ARG, 32},
		{sqlite3.SQLITE_LIMIT_ATTACHED, 0},
		{sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256},
		{sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 100},
		{sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1},
		{sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0},
	} {
		if _, err := sqlite.Limit(conn, l.id, l.to); err != nil {
			return fmt.Errorf("set limits: %w", err)
		}
	}
	return nil
}

// guarded opens connections that have the guard from their first statement on,
// with the file attached unless there is none.
type guarded struct {
	*demodb.FileConnector
	guard *guard
	file  string // as a URI
}

// Connect implements [driver.Connector].
func (c guarded) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.FileConnector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	r, ok := conn.(sqlite.AuthorizerRegisterer)
	e, canExec := conn.(driver.ExecerContext)
	if !ok || !canExec { // fails closed
		return nil, errors.Join(errors.New("the driver has no authorizer"), conn.Close())
	}
	if c.file != "" {
		if _, err := e.ExecContext(ctx, "ATTACH "+literal(c.file)+" AS "+quote(c.guard.file), nil); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	if err := r.RegisterAuthorizer(c.guard.authorize); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
