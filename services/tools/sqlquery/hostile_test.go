package sqlquery_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

func TestHostileStatements(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	before := d.state(t)
	client := serve(t, sqlquery.DefaultConfig(), d.dir)
	tests := []struct{ name, query, text string }{
		// Refused by its first word.
		{"insert", "INSERT INTO customers VALUES (99, 'x', 'x', 'x', 'free', 'x')", "INSERT"},
		{"update", "UPDATE customers SET plan = 'free'", "UPDATE"},
		{"delete", "DELETE FROM orders", "DELETE"},
		{"replace", "REPLACE INTO products VALUES (1, 'x', 'x', 1, 1)", "REPLACE"},
		{"drop", "DROP TABLE orders", "DROP"},
		{"create", "CREATE TABLE x (a)", "CREATE"},
		{"temporary table", "CREATE TEMP TABLE x AS SELECT 1", "CREATE"},
		{"alter", "ALTER TABLE orders RENAME TO x", "ALTER"},
		{"attach", "ATTACH DATABASE '/tmp/evil.db' AS e", "ATTACH"},
		{"detach", "DETACH DATABASE main", "DETACH"},
		{"pragma", "PRAGMA query_only = 0", "PRAGMA"},
		{"writable schema", "PRAGMA writable_schema = ON", "PRAGMA"},
		{"vacuum", "VACUUM", "VACUUM"},
		{"vacuum into a file", "VACUUM INTO '/tmp/copy.db'", "VACUUM"},
		{"reindex", "REINDEX", "REINDEX"},
		{"analyze", "ANALYZE", "ANALYZE"},
		{"explain", "EXPLAIN SELECT 1", "EXPLAIN"},
		{"query plan", "EXPLAIN QUERY PLAN SELECT * FROM salaries", "EXPLAIN"},
		{"begin", "BEGIN IMMEDIATE", "BEGIN"},
		{"commit", "COMMIT", "COMMIT"},
		{"rollback", "ROLLBACK", "ROLLBACK"},
		{"savepoint", "SAVEPOINT a", "SAVEPOINT"},
		{"behind a comment", "/* SELECT */ DELETE FROM orders", "DELETE"},
		// Several statements.
		{"second statement", "SELECT 1; DROP TABLE orders", "one query at a time"},
		{"second statement behind quotes", "SELECT ''';'''; DELETE FROM orders --", "one query at a time"},
		{"second statement, first empty", "; DELETE FROM orders", "DELETE"},
		{"second query", "SELECT 1; SELECT 2", "one query at a time"},
		// Refused by the authorizer.
		{"writing behind WITH", "WITH x AS (SELECT 1) DELETE FROM orders", "deleting from table orders"},
		{"inserting behind WITH", "WITH x AS (SELECT 1) INSERT INTO products SELECT 99, 'x', 'x', 1, 1", "inserting into table products"},
		{"updating behind WITH", "WITH x AS (SELECT 1) UPDATE orders SET total_cents = 0 RETURNING *", "updating"},
		{"another table", "SELECT * FROM salaries", "no table \"salaries\""},
		{"another table without columns", "SELECT count(*) FROM salaries", "no table \"salaries\""},
		{"whether another table has rows", "SELECT EXISTS (SELECT 1 FROM salaries)", "no table \"salaries\""},
		{"another table under a listed name", "WITH orders AS (SELECT * FROM salaries) SELECT * FROM orders", "no table \"salaries\""},
		{"another table under a listed alias", "SELECT customers.secret FROM salaries AS customers", "no table \"salaries\""},
		{"another table in a union", "SELECT name FROM products UNION ALL SELECT secret FROM salaries", "no table \"salaries\""},
		{"another table in IN", "SELECT 1 WHERE (1, 's3cret') IN salaries", "no table \"salaries\""},
		{"another table by a schema", `SELECT * FROM "main"."salaries"`, "no table \"main.salaries\""},
		{"a view on another table", "SELECT * FROM leak", "no table \"leak\""},
		{"the schema", "SELECT sql FROM sqlite_master", "reading table sqlite_master"},
		{"the schema by its other name", "SELECT name FROM main.sqlite_schema", "reading table sqlite_master"},
		{"the schema without columns", "SELECT count(*) FROM sqlite_master", "reading"},
		{"the temporary schema", "SELECT * FROM sqlite_temp_master", "reading table"},
		{"the schema in a subquery", "SELECT (SELECT group_concat(sql) FROM sqlite_master)", "reading table sqlite_master"},
		{"pragma as a table", "SELECT * FROM pragma_table_info('customers')", "pragma_table_info"},
		{"pragma as a table that lists", "SELECT * FROM pragma_database_list", "pragma_database_list"},
		{"pages of the file", "SELECT data FROM sqlite_dbpage", "sqlite_dbpage"},
		{"statistics of the file", "SELECT * FROM dbstat", "dbstat"},
		{"values of JSON as a table", "SELECT value FROM json_each('[1]')", "json_each"},
		{"full text search", "SELECT * FROM search WHERE search MATCH 'hello'", ""},
		{"loading a library", "SELECT load_extension('/tmp/evil.so')", "load_extension"},
		{"random bytes", "SELECT hex(randomblob(200000000))", "randomblob"},
		{"many zeros", "SELECT zeroblob(1000000000)", "zeroblob"},
		{"wide text", "SELECT printf('%.*c', 1000000000, 'x')", "printf"},
		{"wide text by its other name", "SELECT format('%1000000000d', 1)", "format"},
		{"reading files", "SELECT readfile('/etc/passwd')", ""},
		{"writing files", "SELECT writefile('/tmp/x', 'y')", ""},
		{"the log", "SELECT sqlite_log(1, 'x')", "sqlite_log"},
		{"tokenizers", "SELECT fts3_tokenizer('x', x'00')", ""},
		// By joins for whose columns the authorizer is not asked.
		{"another table by USING", "SELECT 1 FROM (SELECT 's3cret' AS secret) JOIN salaries USING (secret)", "no table \"salaries\""},
		{"another table by NATURAL JOIN", "SELECT 1 FROM (SELECT 's3cret' AS secret) NATURAL JOIN salaries", "no table \"salaries\""},
		{"another table by USING in a LEFT JOIN", "SELECT count(secret) FROM (SELECT 's3cret' AS secret) LEFT JOIN salaries USING (secret)", "no table \"salaries\""},
		{"the schema by USING", "SELECT 1 FROM (SELECT 'salaries' AS name) JOIN sqlite_master USING (name)", "reading"},
		{"a virtual table by USING", "SELECT 1 FROM (SELECT 'hello' AS words) JOIN search USING (words)", ""},
		{"a table function by USING", "SELECT 1 FROM (SELECT 1 AS value) JOIN json_each('[1]') USING (value)", ""},
		{"another table by USING in a subquery", "SELECT name FROM customers WHERE EXISTS (SELECT 1 FROM (SELECT 's3cret' AS secret) JOIN salaries USING (secret))", "no table \"salaries\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: tt.query})
			if err == nil {
				t.Fatalf("allowed, with rows %v", rows(got))
			}
			w := want{code: codes.PermissionDenied, reason: sqlqueryv1.Reason_REASON_REFUSED, text: tt.text}
			if strings.Contains(err.Error(), "no such function") {
				w = want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: "no such function"}
			}
			w.check(t, got, err)
		})
	}
	t.Cleanup(func() { // when the parallel cases are over
		if diff := cmp.Diff(before, d.state(t)); diff != "" {
			t.Errorf("files changed (-before +after):\n%s", diff)
		}
	})
}

func TestHiddenColumns(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	cfg := sqlquery.DefaultConfig()
	cfg.Hidden = []string{"Customers.EMAIL"}
	client := serve(t, cfg, d.dir)
	missing := want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: "customers has id, name, country, plan, created"}
	const address = "ada.lindqvist@example.com"
	tests := []struct {
		name, query string
		want        want
	}{
		{"is not there", "SELECT id, email FROM customers WHERE id = 1", missing},
		{"is not there in other case", "SELECT c.EMAIL FROM Customers AS c", missing},
		{"is not there in a condition", "SELECT count(*) FROM customers WHERE email = '" + address + "'", missing},
		{"is not there in an aggregate", "SELECT count(DISTINCT email), max(email) FROM customers", missing},
		{"is not there in ON", "SELECT count(*) FROM customers c JOIN (SELECT '" + address + "' AS e) x ON c.email = x.e", missing},
		{"is not there in IN", "SELECT count(*) FROM orders WHERE '" + address + "' IN (SELECT email FROM customers)", missing},
		{"is not there, like one that never was", "SELECT emial FROM customers", want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: "no such column: emial"}},
		{"is not among all", "SELECT * FROM customers WHERE id = 1", want{rows: [][]any{{1.0, "Ada Lindqvist", "SE", "enterprise", "2023-04-03"}}}},
		{"is not among all of a subquery", "SELECT x.* FROM (SELECT * FROM customers) x", want{}},
		{"is not among all in a compound", "SELECT 1, 2, 3, 4, 5 UNION ALL SELECT * FROM customers WHERE id < 0", want{rows: [][]any{{1.0, 2.0, 3.0, 4.0, 5.0}}}},
		{"is not among all in a compound that would fit", "SELECT 1, 2, 3, 4, 5, 6 UNION ALL SELECT * FROM customers", want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY}},
		{"does not disturb", "SELECT id, name FROM customers WHERE id = 1", want{rows: [][]any{{1.0, "Ada Lindqvist"}}}},
		{"does not disturb where all is not returned", "SELECT count(*) FROM (SELECT * FROM customers)", want{}},
		{
			"is not there in USING", "SELECT count(*) FROM customers JOIN (SELECT '" + address + "' AS email) uSiNg (email)",
			want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: "not present in both"},
		},
		{
			"is not compared by NATURAL", "SELECT count(*) FROM customers NATURAL/**/JOIN (SELECT '" + address + "' AS email)",
			want{rows: [][]any{{50.0}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: tt.query})
			tt.want.check(t, got, err)
			for _, row := range rows(got) {
				for _, v := range row {
					if s, ok := v.(string); ok && strings.Contains(s, "@example") {
						t.Errorf("got the hidden value %q", s)
					}
				}
			}
		})
	}
}

// A column that is the key of the table has other names, which SQLite gives it.
func TestHiddenKey(t *testing.T) {
	t.Parallel()
	cfg := sqlquery.DefaultConfig()
	cfg.Hidden = []string{"customers.id"}
	client := serve(t, cfg, newDatabase(t).dir)
	missing := func(text string) want {
		return want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: text}
	}
	for query, w := range map[string]want{
		"SELECT rowid FROM customers LIMIT 1":                 missing("no such column: rowid"),
		"SELECT _rowid_ FROM customers LIMIT 1":               missing("no such column: _rowid_"),
		"SELECT count(*) FROM customers WHERE OID = 1":        missing("no such column: OID"),
		"SELECT count(*) FROM customers ORDER BY max(rowid)":  missing("no such column: rowid"),
		"SELECT id FROM customers":                            missing("no such column: id"),
		"SELECT name FROM customers INDEXED BY by_id LIMIT 1": missing("no such index"),
	} {
		got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: query})
		w.check(t, got, err)
	}
}

func TestBoundTextIsOnlyText(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	before := d.state(t)
	client := serve(t, sqlquery.DefaultConfig(), d.dir)
	for _, s := range []string{
		"' OR '1'='1", "'; DROP TABLE orders; --", "\" OR 1=1 --", "1) UNION SELECT secret FROM salaries --",
		"%", "_", "\\", "admin'/*", "?", "?1", ":id", "é\u202e'", "\x01'", "a\x00b", "",
	} {
		got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{
			Query:      "SELECT count(*), ? FROM customers WHERE name = ?",
			Parameters: values(t, s, s),
		})
		want{rows: [][]any{{0.0, s}}}.check(t, got, err)
	}
	if diff := cmp.Diff(before, d.state(t)); diff != "" {
		t.Errorf("files changed (-before +after):\n%s", diff)
	}
}

// FuzzQuery holds what must hold for any text: no crash, no change, and nothing
// of the forbidden table in the answer.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"SELECT * FROM orders", "SELECT 1; DROP TABLE orders", "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x",
		"VALUES (1)", "SELECT * FROM salaries", "SELECT secret FROM (SELECT 's' AS secret) NATURAL JOIN salaries",
		"SELECT * FROM customers NATURAL JOIN sqlite_master", "select(1)from(orders)", "SELECT 1 -- \n;pragma x",
		"SELECT \"a\" FROM `b` WHERE [c] = 'd' LIMIT ?", "TABLE salaries", "SELECT x'00', CAST(x'ff' AS TEXT)",
		"SELECT replace(hex(hex(hex('a'))), '', 'b') LIKE '%_%'", "\x00", "SELECT '\xff'",
	} {
		f.Add(s)
	}
	d := newDatabase(f)
	cfg := sqlquery.DefaultConfig()
	cfg.Timeout = cfg.Timeout / 50
	client := serve(f, cfg, d.dir)
	before := d.state(f)
	f.Fuzz(func(t *testing.T, query string) {
		got, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: query})
		if diff := cmp.Diff(before, d.state(t)); diff != "" {
			t.Fatalf("%q changed files (-before +after):\n%s", query, diff)
		}
		if err == nil && !strings.Contains(query, "s3cret") {
			for _, row := range rows(got) {
				for _, v := range row {
					if s, ok := v.(string); ok && strings.Contains(s, "s3cret") {
						t.Errorf("%q read the forbidden table", query)
					}
				}
			}
		}
	})
}
