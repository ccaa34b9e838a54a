// Package postgres runs untrusted queries on PostgreSQL so that they can read
// what their role may read, and change nothing.
//
// The boundary is the server's own, in three parts:
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
// Which tables and functions a query uses is not looked at here, so reading the
// system catalogues, as any role may, is possible. Nor does a limit on the
// memory of the server exist, apart from its own configuration.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-mcp/sallyport/pkg/demodb/pgpool"
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
	Limits      table.Limits
}

// DB runs queries on one server. Its methods are safe for concurrent use.
type DB struct {
	cfg  Config
	pool *pgpool.Pool
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
	c.RuntimeParams["application_name"] = "sallyport sqlquery"
	return &DB{cfg: cfg, pool: pgpool.New(c, cfg.Connections, checkRole)}
}

// Ping reports whether the server can be queried with a role that is harmless.
func (d *DB) Ping(ctx context.Context) error {
	_, err := d.Query(ctx, "SELECT 1", nil)
	return err
}

// Query runs one query. Its errors are faults, or that of a context which ended
// by cancellation.
func (d *DB) Query(ctx context.Context, query string, args []any) (*table.Table, error) {
	t := table.New(d.cfg.Limits)
	err := d.pool.Do(ctx, func(conn *pgx.Conn) error {
		return d.query(ctx, conn.PgConn(), query, args, t)
	})
	if err != nil {
		return nil, explain(ctx, err)
	}
	return t, nil
}

// Close closes all connections, waiting for queries that run until ctx ends.
func (d *DB) Close(ctx context.Context) error { return d.pool.Close(ctx) }

// query leaves the end of the transaction to the pool.
func (d *DB) query(ctx context.Context, conn *pgconn.PgConn, query string, args []any, t *table.Table) error {
	ms := d.cfg.Timeout.Milliseconds()
	begin := fmt.Sprintf("BEGIN READ ONLY; SET LOCAL statement_timeout = %d; SET LOCAL lock_timeout = %d; "+
		"SET LOCAL idle_in_transaction_session_timeout = %d; SET LOCAL cursor_tuple_fraction = 1", ms, ms, 2*ms)
	if _, err := conn.Exec(ctx, begin).ReadAll(); err != nil {
		return err
	}
	values, types := bind(args)
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

// bind returns parameters as text. Their types are left to the server, which
// infers them from the query as it does for literals, but for fractions: it
// would infer an integer where one is compared with an integer.
func bind(args []any) (values [][]byte, types []uint32) {
	values = make([][]byte, len(args))
	types = make([]uint32, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case nil: // NULL
		case string:
			values[i] = []byte(a)
		case float64:
			values[i] = strconv.AppendFloat(nil, a, 'g', -1, 64)
			types[i] = pgtype.NumericOID
		default: // int64, bool
			values[i] = fmt.Append(nil, a)
		}
	}
	return values, types
}

// value reads the text form of a value.
func value(text []byte, oid uint32) *structpb.Value {
	if text == nil {
		return structpb.NewNullValue()
	}
	s := string(text)
	switch oid {
	case pgtype.BoolOID:
		return structpb.NewBoolValue(s == "t")
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return table.Int(n)
		}
	case pgtype.Float4OID, pgtype.Float8OID:
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return table.Float(f)
		}
	case pgtype.NumericOID:
		return numeric(s)
	case pgtype.TimestamptzOID:
		if t, err := time.Parse("2006-01-02 15:04:05.999999999Z07", s); err == nil {
			return table.Time(t)
		}
	case pgtype.TimestampOID:
		return structpb.NewStringValue(strings.Replace(s, " ", "T", 1))
	case pgtype.ByteaOID:
		return bytea(s)
	}
	return table.Text(text)
}
