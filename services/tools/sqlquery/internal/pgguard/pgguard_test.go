//go:build cgo

package pgguard_test

import (
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/pgguard"
)

var scope = access.Scope{Tables: []access.Table{
	{Name: "orders"},
	{Name: "people", Hidden: []string{"mail"}},
	{Schema: "stats", Name: "days", Rows: &access.Rows{Column: "tenant", Value: "o'brien"}},
}}

var columns = pgguard.Columns{
	{Schema: "public", Table: "orders"}: {{"id", true}, {"total", true}},
	{Schema: "public", Table: "people"}: {{"id", true}, {"mail", true}, {"Name", true}, {"salary", false}},
	{Schema: "stats", Table: "days"}:    {{"day", true}, {"tenant", true}},
}

func write(query string) (string, error) {
	q, err := pgguard.New(nil).Parse(query, scope)
	if err != nil {
		return "", err
	}
	return q.SQL(columns)
}

func TestWhatRuns(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, query, want string }{
		{"a table gets its full name", "SELECT id FROM orders", "SELECT id FROM public.orders orders"},
		{"an alias stays", "SELECT o.id FROM orders o", "SELECT o.id FROM public.orders o"},
		{"comments go", "SELECT 1 -- x\n/* y */", "SELECT 1"},
		{"hidden columns go", "SELECT * FROM people", `SELECT * FROM (SELECT id, "Name" FROM public.people) people`},
		{"hidden rows go", "SELECT * FROM stats.days d", `SELECT * FROM (SELECT day, tenant FROM stats.days WHERE tenant = 'o''brien' OFFSET 0) d`},
		{"ONLY stays", "SELECT * FROM ONLY people", `SELECT * FROM (SELECT id, "Name" FROM ONLY public.people) people`},
		{"a common table stays", "WITH n AS (SELECT 1) SELECT * FROM n", "WITH n AS (SELECT 1) SELECT * FROM n"},
		{"a full name of a column is cut", "SELECT public.people.id FROM people", `SELECT people.id FROM (SELECT id, "Name" FROM public.people) people`},
	}
	for _, tt := range tests {
		if got, err := write(tt.query); err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct{ query, text string }{
		{"SELECT 1; SELECT 2", "one query at a time"},
		{"INSERT INTO orders VALUES (1)", "INSERT"},
		{"EXPLAIN SELECT 1", "Explain"},
		{"COPY orders TO PROGRAM 'id'", "Copy"},
		{"WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x", "DELETE"},
		{"WITH x AS (UPDATE orders SET id = 1 RETURNING *) SELECT * FROM x", "UPDATE"},
		{"WITH x AS (INSERT INTO orders VALUES (1) RETURNING *) SELECT * FROM x", "INSERT"},
		{"SELECT * FROM (WITH x AS (MERGE INTO orders o USING people p ON true WHEN MATCHED THEN DELETE RETURNING 1) SELECT * FROM x) y", "MERGE"},
		{"SELECT * INTO x FROM orders", "INTO"},
		{"SELECT 1 UNION SELECT * FROM (SELECT * FROM orders FOR SHARE) x", "locking rows"},
		{"SELECT * FROM salaries", `no table "salaries"`},
		{"SELECT * FROM pg_class", `no table "pg_class"`},
		{"SELECT * FROM pg_catalog.pg_class", `no table "pg_catalog.pg_class"`},
		{"SELECT * FROM information_schema.tables", "information_schema.tables"},
		{"SELECT * FROM other.orders", `no table "other.orders"`},
		{"SELECT * FROM db.public.orders", "another database"},
		{"SELECT db.public.orders.id FROM orders", "another database"},
		{`SELECT * FROM "Orders"`, `no table "Orders"`},
		{"SELECT * FROM days", `no table "days"; the tables are orders, people, stats.days`},
		{"WITH x AS (SELECT * FROM y), y AS (SELECT 1) SELECT * FROM x", `no table "y"`},
		{"SELECT (WITH z AS (SELECT 1) SELECT 1), * FROM z", `no table "z"`},
		{"WITH pg_class AS (SELECT 1) SELECT * FROM pg_class", "pg_"},
		{"SELECT pg_sleep(1)", "pg_sleep"},
		{"SELECT pg_catalog.pg_read_file('/etc/passwd')", "pg_catalog.pg_read_file"},
		{"SELECT public.lower('x')", "public.lower"},
		{"SELECT ('/etc/passwd').pg_read_file", "(…).pg_read_file"},
		{"SELECT ('/etc/passwd'::text).pg_read_file", "(…).pg_read_file"},
		{"SELECT (o.*).pg_column_size FROM orders o", "(…).pg_column_size"},
		{"SELECT (ARRAY['/etc/passwd'])[1].pg_read_file", "(…).pg_read_file"},
		{"SELECT o.pg_column_size FROM orders o", "pg_column_size"},
		{"SELECT format('%1000000000s', 1)", "format"},
		{"SELECT * FROM pg_ls_dir('/')", "pg_ls_dir"},
		{"SELECT * FROM ROWS FROM (generate_series(1, 2), pg_ls_dir('/')) x", "pg_ls_dir"},
		{"SELECT 1 ORDER BY nextval('x')", "nextval"},
		{"SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM orders", "pg_sleep"},
		{"SELECT sum(1) OVER (ORDER BY lo_create(0)) FROM orders", "lo_create"},
		{"SELECT sum(1) OVER w FROM orders WINDOW w AS (PARTITION BY lo_create(0))", "lo_create"},
		{"SELECT 1 LIMIT pg_backend_pid()", "pg_backend_pid"},
		{"VALUES (set_config('a', 'b', false))", "set_config"},
		{"SELECT CASE WHEN true THEN version() END", "version"},
		{"SELECT * FROM orders o JOIN people p ON dblink_exec('x', 'y') IS NULL", "dblink_exec"},
		{"SELECT query_to_xml('DELETE FROM orders', true, true, '')", "query_to_xml"},
		{"SELECT repeat('x', 1000000000)", "repeat"},
		{"SELECT 'salaries'::regclass", "regclass"},
		{"SELECT NULL::salaries", "salaries"},
		{"SELECT CAST('x' AS public.text)", "public.text"},
		{"SELECT '(1)'::orders", "orders"},
		{"SELECT current_user", "who is connected"},
		{"SELECT current_schema", "who is connected"},
		{"SELECT current_catalog", "who is connected"},
		{"SELECT tableoid FROM orders", "tableoid"},
		{"SELECT o.xmin FROM orders o", "xmin"},
		{"SELECT 1 OPERATOR(public.+) 2", "public.+"},
		{"SELECT 'a' COLLATE public.mine", "public.mine"},
		{"SELECT * FROM orders TABLESAMPLE system (1)", "TABLESAMPLE"},
		{"SELECT * FROM json_to_recordset('[]') AS x (a regclass)", "json_to_recordset"},
		{"SELECT * FROM unnest(ARRAY[1]) AS x (a int)", ""},
		{"SELECT xmlelement(name a)", "XML"},
		{"SELECT $$a$$ || pg_sleep(1)", "pg_sleep"},
		{"SELECT U&'\\0061', U&\"pg_sl\\0065ep\"(1)", "pg_sleep"},
	}
	for _, tt := range tests {
		got, err := write(tt.query)
		switch {
		case err == nil && tt.text == "": // not a matter of this test
		case !fault.Is(err, sqlqueryv1.Reason_REASON_REFUSED):
			t.Errorf("%s: got %q, %v; want a refusal", tt.query, got, err)
		case !strings.Contains(err.Error(), tt.text):
			t.Errorf("%s: got error %q, want one with %q", tt.query, err, tt.text)
		}
	}
}

func TestWrongQueries(t *testing.T) {
	t.Parallel()
	for query, text := range map[string]string{
		"":                     "empty",
		"-- nothing":           "empty",
		"SELECT 1 FORM x y":    `syntax error at or near "x"`,
		"SELECT 'a":            "unterminated quoted string",
		"SELECT 1\x00; DELETE": "NUL",
		"SELECT " + strings.Repeat("(", 4000) + "1" + strings.Repeat(")", 4000): "",
	} {
		_, err := write(query)
		if query[:min(10, len(query))] == "SELECT (((" && err == nil {
			continue // deep, but within what the parser takes
		}
		if !fault.Is(err, sqlqueryv1.Reason_REASON_QUERY) || !strings.Contains(err.Error(), text) {
			t.Errorf("%.40q: got error %v, want REASON_QUERY with %q", query, err, text)
		}
	}
}

// FuzzParse holds what must hold for any text: no crash, and what runs is checked
// again without complaint; it fails with a fault or not at all.
func FuzzParse(f *testing.F) {
	for _, q := range []string{
		"SELECT * FROM orders o JOIN people USING (id) WHERE o.total > $1", "WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT 1 FROM a) TABLE a",
		"SELECT extract(year FROM d), d AT TIME ZONE 'utc', trim(BOTH 'x' FROM y), substring(x FROM 1 FOR 2), position('a' IN b) FROM stats.days x(d)",
		"SELECT sum(id) FILTER (WHERE id > 1) OVER (PARTITION BY a ROWS 3 PRECEDING) FROM orders GROUP BY CUBE (1, 2), GROUPING SETS ((), (3))",
		"SELECT ('x').f, a[1:2], NOT a IS DISTINCT FROM b, x BETWEEN SYMMETRIC 1 AND 2, E'\\\\', U&'\\0061', '1'::interval(3), DATE '2020-01-01'",
		"VALUES (1), ('a') ORDER BY 1 FETCH FIRST 1 ROW WITH TIES", "SELECT * FROM salaries", "SELECT pg_sleep(1)", "'", "\xff", "SELECT \"a\"\"b\" FROM public.people",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		text, err := write(query)
		if err == nil {
			if strings.Contains(text, ";") && !strings.Contains(query, ";") {
				t.Errorf("%q became %q", query, text)
			}
			return
		}
		if !fault.Is(err, sqlqueryv1.Reason_REASON_REFUSED) && !fault.Is(err, sqlqueryv1.Reason_REASON_QUERY) {
			t.Errorf("%q: got error %v, want a fault", query, err)
		}
	})
}
