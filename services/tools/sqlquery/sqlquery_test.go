package sqlquery_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

// database is the demo database with a table that may not be read.
type database struct {
	dir, path string
}

func newDatabase(t testing.TB) database {
	t.Helper()
	dir := t.TempDir()
	d := database{dir, demodb.File(dir)}
	if err := demodb.Create(t.Context(), d.path); err != nil {
		t.Fatal(err)
	}
	d.exec(t, `CREATE TABLE salaries (id INTEGER PRIMARY KEY, secret TEXT); INSERT INTO salaries VALUES (1, 's3cret');
		CREATE INDEX salaries_secret ON salaries (secret);
		CREATE VIEW leak AS SELECT secret FROM salaries;
		CREATE VIRTUAL TABLE search USING fts5(words); INSERT INTO search VALUES ('hello')`)
	return d
}

func (d database) exec(t testing.TB, script string) {
	t.Helper()
	db := sql.OpenDB(demodb.Connector(d.path, "_busy_timeout=5000"))
	if _, err := db.ExecContext(t.Context(), script); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// state is all that a query could change: the files in the folder.
func (d database) state(t testing.TB) map[string][sha256.Size]byte {
	t.Helper()
	files, err := os.ReadDir(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][sha256.Size]byte)
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(d.dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name()] = sha256.Sum256(text)
	}
	return out
}

func serve(t testing.TB, cfg sqlquery.Config, dir string) sqlqueryv1.SqlQueryServiceClient {
	t.Helper()
	s, err := sqlquery.New(cfg, dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return sqlqueryv1.NewSqlQueryServiceClient(rpctest.Serve(t, s.Register))
}

// rows returns a result as plain values.
func rows(r *sqlqueryv1.RunSqlQueryResponse) [][]any {
	var out [][]any
	for _, l := range r.GetRows() {
		out = append(out, l.AsSlice())
	}
	return out
}

func values(t testing.TB, v ...any) []*structpb.Value {
	t.Helper()
	l, err := structpb.NewList(v)
	if err != nil {
		t.Fatal(err)
	}
	return l.GetValues()
}

// want is an answer, or a refusal with a part of its message.
type want struct {
	rows   [][]any
	code   codes.Code
	reason fault.Reason
	text   string
}

func (w want) check(t testing.TB, got *sqlqueryv1.RunSqlQueryResponse, err error) {
	t.Helper()
	if status.Code(err) != w.code {
		t.Fatalf("got error %v, want code %v", err, w.code)
	}
	if err == nil {
		if diff := cmp.Diff(w.rows, rows(got)); w.rows != nil && diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		return
	}
	if w.reason != nil && !fault.Is(err, w.reason) {
		t.Errorf("got error %v, want reason %v", err, w.reason)
	}
	if !strings.Contains(err.Error(), w.text) {
		t.Errorf("got error %q, want one with %q", err, w.text)
	}
	if strings.Contains(err.Error(), os.TempDir()) {
		t.Errorf("the error %q shows a path", err)
	}
}

func TestReads(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	client := serve(t, sqlquery.DefaultConfig(), d.dir)
	tests := []struct {
		name, query string
		args        []any
		want        want
	}{
		{"a table is read", "SELECT id, name FROM customers WHERE id = 1", nil, want{rows: [][]any{{1.0, "Ada Lindqvist"}}}},
		{"a semicolon at the end is fine", "SELECT 1;", nil, want{rows: [][]any{{1.0}}}},
		{"comments are fine", "-- one\nSELECT /* ; */ 1 -- ;", nil, want{rows: [][]any{{1.0}}}},
		{"no rows is an answer", "SELECT id FROM orders WHERE id < 0", nil, want{}},
		{"joins and groups work", `SELECT c.country, count(*) AS n FROM orders o JOIN customers c ON c.id = o.customer_id
			GROUP BY 1 HAVING n > 3 ORDER BY n DESC, 1`, nil, want{}},
		{"USING works on listed tables", "SELECT count(*) FROM (SELECT id AS customer_id FROM customers) JOIN orders USING (customer_id)", nil, want{rows: [][]any{{400.0}}}},
		{"windows work", "SELECT id, rank() OVER (PARTITION BY category ORDER BY price_cents DESC) FROM products LIMIT 3", nil, want{}},
		{"common tables work", "WITH big AS (SELECT * FROM orders WHERE total_cents > 50000) SELECT count(*) > 0 FROM big", nil, want{rows: [][]any{{1.0}}}},
		{"recursion that ends works", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n", nil, want{rows: [][]any{{15.0}}}},
		{"a common table may have the name of a forbidden one", "WITH salaries AS (SELECT 1) SELECT count(*) FROM salaries", nil, want{rows: [][]any{{1.0}}}},
		{"VALUES works", "VALUES (1, 'a'), (2, NULL)", nil, want{rows: [][]any{{1.0, "a"}, {2.0, nil}}}},
		{"compounds work", "SELECT 1 UNION SELECT 2 EXCEPT SELECT 1", nil, want{rows: [][]any{{2.0}}}},
		{"months work", "SELECT strftime('%Y-%m', created) AS m, sum(total_cents) / 100.0 FROM orders GROUP BY m ORDER BY m LIMIT 2", nil, want{}},
		{"JSON works", `SELECT json_extract('{"a": 7}', '$.a'), '{"a": [8]}' -> '$.a' ->> 0`, nil, want{rows: [][]any{{7.0, 8.0}}}},
		{"values are bound", "SELECT ?, ?, ?, ?, typeof(?), typeof(?)", []any{"x", 2, true, nil, 3, 3.5}, want{rows: [][]any{{"x", 2.0, 1.0, nil, "integer", "real"}}}},
		{"numbered placeholders are bound", "SELECT ?2, ?1", []any{"a", "b"}, want{rows: [][]any{{"b", "a"}}}},
		{"large integers come as text", "SELECT 9007199254740993, -9223372036854775808, 9007199254740992", nil, want{rows: [][]any{{"9007199254740993", "-9223372036854775808", 9007199254740992.0}}}},
		{"infinity comes as text", "SELECT 9e999, -9e999", nil, want{rows: [][]any{{"+Inf", "-Inf"}}}},
		{"bytes come as text or base64", "SELECT x'6869', x'ff00', CAST(x'fe' AS TEXT), ''", nil, want{rows: [][]any{{"hi", "base64:/wA=", "base64:/g==", ""}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: tt.query, Parameters: values(t, tt.args...)})
			tt.want.check(t, got, err)
			if int(got.GetRowCount()) != len(got.GetRows()) || got.GetTruncated() || len(got.GetColumns()) == 0 {
				t.Errorf("got count %d for %d rows, truncated %v, columns %v", got.GetRowCount(), len(got.GetRows()), got.GetTruncated(), got.GetColumns())
			}
		})
	}
}

func TestWrongQueries(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	client := serve(t, sqlquery.DefaultConfig(), d.dir)
	wrong := func(text string) want {
		return want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: text}
	}
	parameters := func(text string) want {
		return want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_PARAMETERS, text: text}
	}
	contract := func(text string) want {
		return want{code: codes.InvalidArgument, reason: faultv1.Reason_REASON_INVALID, text: text}
	}
	tests := []struct {
		name, query string
		args        []any
		want        want
	}{
		{"a syntax error is told", "SELECT name FORM customers", nil, wrong(`near "customers": syntax error`)},
		{"an unknown column is told", "SELECT nme FROM customers", nil, wrong("no such column: nme")},
		{"an unknown table is told", "SELECT 1 FROM custmers", nil, want{
			code: codes.PermissionDenied, reason: sqlqueryv1.Reason_REASON_REFUSED, text: `no table "custmers"; the tables are customers, orders, products`,
		}},
		{"a misspelt column in double quotes is no string", `SELECT "nme" FROM customers`, nil, wrong("no such column")},
		{"nothing is told", " -- nothing\n", nil, wrong("empty")},
		{"NUL is told", "SELECT 1\x00; DROP TABLE orders", nil, wrong("NUL")},
		{"too deep an expression is told", "SELECT " + strings.Repeat("(1+", 500) + "1" + strings.Repeat(")", 500), nil, wrong("")},
		{"too few values are told", "SELECT ?, ?", []any{1}, parameters("2 placeholders and the request 1")},
		{"too many values are told", "SELECT ?", []any{1, 2}, parameters("1 placeholders and the request 2")},
		{"names are told", "SELECT :id", []any{1}, parameters(`":id" has a name`)},
		{"lists cannot be bound", "SELECT ?", []any{[]any{1}}, contract("parameters[0]: sql.parameter")},
		{"long texts cannot be bound", "SELECT ?", []any{strings.Repeat("x", 10001)}, contract("parameters[0]: sql.parameter")},
		{"objects cannot be bound", "SELECT ?, ?", []any{1, map[string]any{}}, contract("parameters[1]: sql.parameter")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: tt.query, Parameters: values(t, tt.args...)})
			tt.want.check(t, got, err)
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	cfg := sqlquery.DefaultConfig()
	cfg.MaxRows, cfg.MaxBytes, cfg.MaxValue, cfg.Timeout = 7, 2048, 4096, 500*time.Millisecond
	cfg.Connections = 1
	client := serve(t, cfg, d.dir)
	endless := "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
	large := want{code: codes.ResourceExhausted, reason: sqlqueryv1.Reason_REASON_TOO_LARGE}
	late := want{code: codes.DeadlineExceeded, reason: sqlqueryv1.Reason_REASON_TIMEOUT, text: "too long"}
	tests := []struct {
		name, query string
		want        want
		wantRows    int
		wantCut     bool
	}{
		{"rows up to the limit are whole", "SELECT id FROM orders LIMIT 7", want{}, 7, false},
		{"rows beyond it are cut", "SELECT id FROM orders LIMIT 8", want{}, 7, true},
		{"bytes beyond the limit are cut", "SELECT replace('xxxxxxxxxx', 'x', name || '0123456789012345678901234567890123456789') FROM products", want{}, 3, true},
		{"endless rows are cut", endless + "SELECT i FROM n", want{}, 7, true},
		{"a row that is too large is refused", "SELECT replace('xxxxxxxxxx', 'x', '" + strings.Repeat("y", 300) + "')", large, 0, false},
		{"a value that is too large is refused", "SELECT length(replace('xxxxxxxxxx', 'x', '" + strings.Repeat("y", 500) + "'))", large, 0, false},
		{"endless work is stopped", endless + "SELECT count(*) FROM n", late, 0, false},
		{"endless sorting is stopped", endless + "SELECT i FROM n ORDER BY -i", late, 0, false},
		{"huge joins are stopped", "SELECT count(*) FROM orders a, orders b, orders c, orders d WHERE a.id + b.id = c.id + d.id", late, 0, false},
		{"names of columns are cut", "SELECT '" + strings.Repeat("x", 1000) + "'", want{}, 1, false},
		{"the connection works afterwards", "SELECT 1", want{}, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { // one after the other: there is one connection
			start := time.Now()
			got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: tt.query})
			tt.want.check(t, got, err)
			if len(got.GetRows()) != tt.wantRows || got.GetTruncated() != tt.wantCut {
				t.Errorf("got %d rows, truncated %v; want %d, %v", len(got.GetRows()), got.GetTruncated(), tt.wantRows, tt.wantCut)
			}
			if took := time.Since(start); took > 10*cfg.Timeout {
				t.Errorf("took %v, with a limit of %v", took, cfg.Timeout)
			}
			for _, c := range got.GetColumns() {
				if len(c) > 200 {
					t.Errorf("got a column with a name of %d bytes", len(c))
				}
			}
		})
	}
}

// TestCancellation calls the service itself: a client that has given up does not
// wait for what its server answers.
func TestCancellation(t *testing.T) {
	t.Parallel()
	s, err := sqlquery.New(sqlquery.DefaultConfig(), newDatabase(t).dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.RunSqlQuery(ctx, &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT 1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("RunSqlQuery: got error %v, want that of the context", err)
	}
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	cfg := sqlquery.DefaultConfig()
	dir := t.TempDir()
	cfg.DSN = "sqlite:" + filepath.Join(dir, "none.db")
	client := serve(t, cfg, dir)
	_, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT 1"})
	want{code: codes.Unavailable, reason: sqlqueryv1.Reason_REASON_DATABASE}.check(t, nil, err)
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("the query of a missing database made files: %v, %v", files, err)
	}
}
