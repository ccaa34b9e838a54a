//go:build postgres

package sqlquery_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
	"github.com/sallyport-mcp/sallyport/pkg/demodb/pgtest"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

// server has the demo database, the reader's role, and a forbidden table.
type server struct{ admin, reader string }

func newServer(t *testing.T) server {
	t.Helper()
	admin := pgtest.Start(t)
	pgtest.Exec(t, admin, demodb.SQL(demodb.Postgres))
	pgtest.Exec(t, admin, sqlquery.ReaderSQL())
	pgtest.Exec(t, admin, `CREATE TABLE salaries (secret text); INSERT INTO salaries VALUES ('s3cret'); CREATE SEQUENCE numbers`)
	return server{admin, pgtest.As(t, admin, "sallyport_reader")}
}

// state is what a query could change.
func (s server) state(t *testing.T) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		t.Fatal(err)
	}
	var out string
	err = conn.QueryRow(ctx, `SELECT concat_ws('/',
		(SELECT sum(hashtext(o::text)) FROM orders o), (SELECT sum(hashtext(c::text)) FROM customers c),
		(SELECT sum(hashtext(p::text)) FROM products p), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_roles),
		(SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
		(SELECT last_value FROM numbers))`).Scan(&out)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}
	return out
}

func postgresConfig(dsn string) sqlquery.Config {
	cfg := sqlquery.DefaultConfig()
	cfg.DSN = dsn
	cfg.Timeout = time.Minute // so that a busy machine changes no answer
	return cfg
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	before := s.state(t)
	cfg := postgresConfig(s.reader)
	client := serve(t, cfg, t.TempDir())

	refused := func(text string) want {
		return want{code: codes.PermissionDenied, reason: sqlqueryv1.Reason_REASON_REFUSED, text: text}
	}
	wrong := func(text string) want {
		return want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: text}
	}
	large := func(text string) want {
		return want{code: codes.ResourceExhausted, reason: sqlqueryv1.Reason_REASON_TOO_LARGE, text: text}
	}
	parameters := want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_PARAMETERS}
	tests := []struct {
		name, query string
		args        []any
		want        want
	}{
		{"a table is read", "SELECT id, name, created FROM customers WHERE id = $1", []any{1}, want{rows: [][]any{{1.0, "Ada Lindqvist", "2023-04-03"}}}},
		{"more rows than a batch are read", "SELECT count(*) FROM (SELECT * FROM orders) o", nil, want{rows: [][]any{{400.0}}}},
		{"no rows is an answer", "SELECT id FROM orders WHERE id < 0", nil, want{}},
		{"common tables work", "WITH n AS (SELECT 1 AS i) TABLE n", nil, want{rows: [][]any{{1.0}}}},
		{"VALUES works", "(VALUES (1, 'a'), (2, NULL));", nil, want{rows: [][]any{{1.0, "a"}, {2.0, nil}}}},
		{"comments are fine", "-- one\n/* two */ SELECT 1 -- four", nil, want{rows: [][]any{{1.0}}}},
		{
			"values have their JSON types",
			`SELECT true, 1::smallint, 9007199254740993, 1.5::float8, 'NaN'::float8, 12.50, 1e20::numeric, avg(n), 'x'::bytea, '\xff'::bytea, '{"a": 1}'::jsonb,
				'2026-01-02 03:04:05.25+02'::timestamptz, '2026-01-02 03:04:05'::timestamp, '2026-01-02'::date FROM (VALUES (1), (2), (2)) v (n)`, nil,
			want{rows: [][]any{{
				true, 1.0, "9007199254740993", 1.5, "NaN", 12.5, "100000000000000000000", 1.6666666666666667, "x", "base64:/w==", `{"a": 1}`,
				"2026-01-02T01:04:05.25Z", "2026-01-02T03:04:05", "2026-01-02",
			}}},
		},
		{"values are bound", "SELECT $1, $2::int, $3::bool, $4::text, $5::numeric", []any{"x'", 2, true, nil, 1.5}, want{rows: [][]any{{"x'", 2.0, true, nil, 1.5}}}},
		{"fractions compare with integers", "SELECT count(*) FROM products WHERE price_cents < $1", []any{1490.5}, want{rows: [][]any{{1.0}}}},
		{"text is a date where one is compared", "SELECT count(*) > 0 FROM orders WHERE created >= $1", []any{"2025-01-01"}, want{rows: [][]any{{true}}}},
		{"too few values are told", "SELECT $1::int, $2::int", []any{1}, parameters},
		{"too many values are told", "SELECT 1", []any{1}, parameters},
		{"a syntax error is told", "SELECT name FORM customers", nil, wrong(`syntax error at or near "customers"`)},
		{"an unknown column is told", "SELECT nme FROM customers", nil, wrong(`column "nme" does not exist`)},
		{"a bad value is told", "SELECT $1::int", []any{"x"}, wrong("invalid input syntax for type integer")},

		{"COMMIT", "COMMIT", nil, refused("COMMIT")},
		{"second statement", "SELECT 1; COMMIT", nil, refused("only one query at a time")},
		{"behind a comment", "/* SELECT */ COMMIT", nil, refused("COMMIT")},
		{"behind a nested comment", "/* /* */ SELECT */ COMMIT", nil, refused("no SELECT")},
		{"insert", "INSERT INTO orders SELECT * FROM orders", nil, refused("INSERT")},
		{"insert behind WITH", "WITH x AS (SELECT 1) INSERT INTO orders SELECT * FROM orders", nil, refused("no SELECT but INSERT")},
		{"delete in WITH", "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x", nil, refused("DELETE is refused")},
		{"select into", "SELECT * INTO stolen FROM customers", nil, refused("SELECT INTO")},
		{"lock rows", "SELECT * FROM orders FOR UPDATE", nil, refused("")},
		{"copy", "COPY orders TO PROGRAM 'id'", nil, refused("COPY")},
		{"do", "DO $$ BEGIN COMMIT; END $$", nil, refused("DO")},
		{"set", "SET TRANSACTION READ WRITE", nil, refused("SET")},
		{"explain analyze", "EXPLAIN ANALYZE DELETE FROM orders", nil, refused("EXPLAIN")},
		{"explain in a query", "SELECT * FROM (EXPLAIN SELECT 1) x", nil, wrong("syntax")},
		{"another table", "SELECT * FROM salaries", nil, refused("salaries")},
		{"another table by USING", "SELECT 1 FROM (SELECT 's3cret' AS secret) x JOIN salaries USING (secret)", nil, refused("salaries")},
		{"passwords", "SELECT * FROM pg_authid", nil, refused("pg_authid")},
		{"too dear", "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b", nil, large("too dear")},
		{"a huge value", "SELECT string_agg('xxxxxxxxxx', '') FROM generate_series(1, 300000)", nil, large("")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: tt.query, Parameters: values(t, tt.args...)})
			tt.want.check(t, got, err)
			if err == nil && len(got.GetColumns()) == 0 {
				t.Error("got no columns")
			}
		})
	}
	t.Run("endless work is stopped", func(t *testing.T) {
		t.Parallel()
		cfg := cfg
		cfg.Timeout = time.Second
		got, err := serve(t, cfg, t.TempDir()).RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{
			Query: "WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
		})
		want{code: codes.DeadlineExceeded, reason: sqlqueryv1.Reason_REASON_TIMEOUT}.check(t, got, err)
	})
	t.Run("rows are cut at the limit", func(t *testing.T) {
		t.Parallel()
		got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT generate_series(1, 100000000)"})
		if err != nil || got.GetRowCount() != 1000 || !got.GetTruncated() {
			t.Errorf("got %d rows, truncated %v, error %v; want 1000, true, none", got.GetRowCount(), got.GetTruncated(), err)
		}
	})
	t.Cleanup(func() { // when the parallel cases are over; the server stops later
		if diff := cmp.Diff(before, s.state(t)); diff != "" {
			t.Errorf("the database changed (-before +after):\n%s", diff)
		}
	})
}

// The server's own boundary must hold where the guard of the parse tree does not.
func TestPostgresWithoutTheGuard(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	before := s.state(t)
	cfg := postgresConfig(s.reader)
	cfg.Tables = []string{"salaries", "pg_catalog.pg_authid", "orders"}
	cfg.Functions = strings.Fields(`nextval pg_read_file pg_ls_dir lo_create lo_import pg_advisory_lock pg_notify
		pg_logical_emit_message pg_terminate_backend set_config query_to_xml pg_sleep`)
	client := serve(t, cfg, t.TempDir())
	tests := []struct{ name, query string }{
		{"another table", "SELECT * FROM salaries"},
		{"another table by USING", "SELECT 1 FROM (SELECT 's3cret' AS secret) x JOIN salaries USING (secret)"},
		{"passwords", "SELECT * FROM pg_catalog.pg_authid"},
		{"sequences", "SELECT nextval('public.numbers')"},
		{"files", "SELECT pg_read_file('/etc/passwd')"},
		{"folders", "SELECT pg_ls_dir('/')"},
		{"large objects", "SELECT lo_create(0)"},
		{"large objects from files", "SELECT lo_import('/etc/passwd')"},
		{"advisory locks", "SELECT pg_advisory_lock(1)"},
		{"notifications", "SELECT pg_notify('a', 'b')"},
		{"messages in the log of changes", "SELECT pg_logical_emit_message(false, 'a', 'b')"},
		{"signals", "SELECT pg_terminate_backend(1)"},
		{"settings", "SELECT set_config('statement_timeout', '0', false)"},
		{"writing through XML", "SELECT query_to_xml('DELETE FROM public.orders', true, true, '')"},
	}
	for _, tt := range tests {
		got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: tt.query})
		if fault.Is(err, sqlqueryv1.Reason_REASON_REFUSED) {
			continue
		}
		t.Errorf("%s: got %v, %v; want REASON_REFUSED", tt.name, got, err)
	}
	cfg.Timeout = time.Second
	_, err := serve(t, cfg, t.TempDir()).RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT pg_sleep(600)"})
	want{code: codes.DeadlineExceeded, reason: sqlqueryv1.Reason_REASON_TIMEOUT}.check(t, nil, err)
	if diff := cmp.Diff(before, s.state(t)); diff != "" {
		t.Errorf("the database changed (-before +after):\n%s", diff)
	}
}

func TestPostgresRoles(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	pgtest.Exec(t, s.admin, `CREATE ROLE writer LOGIN; GRANT UPDATE (plan) ON customers TO writer;
		CREATE ROLE maker LOGIN; GRANT CREATE ON SCHEMA public TO maker;
		CREATE ROLE caller LOGIN; GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO caller;
		CREATE ROLE member LOGIN; GRANT pg_read_server_files TO member;
		CREATE ROLE fine LOGIN; GRANT SELECT ON customers TO fine`)
	down := want{code: codes.Unavailable, reason: sqlqueryv1.Reason_REASON_DATABASE}
	tests := []struct {
		name, role string
		want       want
	}{
		{"the reader's role is taken", "sallyport_reader", want{}},
		{"a role that can only read is taken", "fine", want{}},
		{"a superuser is refused", "postgres", down},
		{"a role that may write one column is refused", "writer", down},
		{"a role that may create tables is refused", "maker", down},
		{"a role that may call a risky function is refused", "caller", down},
		{"a role with a powerful membership is refused", "member", down},
		{"a role that does not exist is refused", "nobody", down},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, postgresConfig(pgtest.As(t, s.admin, tt.role)), t.TempDir())
			got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT 1"})
			tt.want.check(t, got, err)
		})
	}
}

func TestPostgresDown(t *testing.T) {
	t.Parallel()
	client := serve(t, postgresConfig("postgres://x@127.0.0.1:1/x"), t.TempDir())
	_, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT 1"})
	want{code: codes.Unavailable, reason: sqlqueryv1.Reason_REASON_DATABASE}.check(t, nil, err)
	if strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("the error shows an address: %v", err)
	}
}

func TestReaderSQLRevokesWhatTheCheckLooksFor(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("internal", "postgres", "role.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "const risky = ")
	quoted, _, _ := strings.Cut(rest, "\n\n")
	var pattern strings.Builder
	for i, part := range strings.Split(quoted, "`") {
		if i%2 == 1 {
			pattern.WriteString(part)
		}
	}
	if !strings.Contains(sqlquery.ReaderSQL(), "'"+pattern.String()+"'") {
		t.Errorf("reader.sql does not contain the pattern %q", pattern.String())
	}
}
