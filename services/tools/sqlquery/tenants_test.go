package sqlquery_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

// tenanted serves tables with rows of two tenants and of some that are only
// nearly one of them.
func tenanted(t *testing.T) sqlqueryv1.SqlQueryServiceClient {
	t.Helper()
	d := newDatabase(t)
	d.exec(t, `CREATE TABLE bills (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL COLLATE NOCASE, amount INT NOT NULL, note TEXT);
		INSERT INTO bills VALUES (1, 'acme', 10, 'n1'), (2, 'acme', 20, '{}'), (3, 'evil', 5, 's3cret{'), (4, 'ACME', 7, 's3cret'), (5, x'61636d65', 8, 's3cret');
		CREATE INDEX bills_tenant ON bills (tenant); CREATE TABLE numbers (owner INT, n INT); INSERT INTO numbers VALUES (7, 1), ('acme', 2);
		CREATE TABLE kinds (name TEXT, cost INT); INSERT INTO kinds VALUES ('a', 10), ('b', 2);
		CREATE VIEW totals AS SELECT tenant, sum(amount) AS s FROM bills GROUP BY tenant; CREATE VIEW shown AS SELECT id FROM bills`)
	cfg := sqlquery.DefaultConfig()
	cfg.Connections = 1 // so that callers follow each other on one connection
	cfg.Timeout = time.Minute
	cfg.Tables = []string{"bills", "kinds", "numbers", "totals", "shown"}
	cfg.Hidden = []string{"bills.tenant"}
	cfg.Roles = map[string]sqlquery.Grant{
		"clerk":   {Tables: []string{"bills", "kinds", "numbers", "totals", "shown"}},
		"auditor": {Tables: []string{"bills"}, Hidden: []string{"bills.note"}},
	}
	cfg.Tenants = &sqlquery.Tenants{Columns: []string{"bills.tenant", "numbers.owner", "totals.tenant"}, Shared: []string{"kinds", "shown"}}
	return serve(t, cfg, d.dir)
}

func TestTenantsSeeTheirRows(t *testing.T) {
	t.Parallel()
	client := tenanted(t)
	refused := func(text string) want {
		return want{code: codes.PermissionDenied, reason: sqlqueryv1.Reason_REASON_REFUSED, text: text}
	}
	missing := func(text string) want {
		return want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: text}
	}
	principal := func(tenant string, roles ...string) *authv1.Principal {
		return &authv1.Principal{Id: "key:1", Tenant: tenant, Roles: roles}
	}
	clerk, auditor := principal("acme", "clerk"), principal("evil", "auditor")
	mine := [][]any{{1.0, 10.0, "n1"}, {2.0, 20.0, "{}"}}
	ids := [][]any{{1.0}, {2.0}}
	two := want{rows: [][]any{{2.0}}}
	tests := []struct {
		name   string
		caller *authv1.Principal
		query  string
		want   want
	}{
		{"* is what is visible", clerk, "SELECT * FROM bills ORDER BY id", want{rows: mine}},
		{"another tenant has other rows", auditor, "SELECT * FROM bills", want{rows: [][]any{{3.0, 5.0}}}},
		{"the first has his again", clerk, "SELECT * FROM bills ORDER BY id", want{rows: mine}},
		{"a table is in other case", clerk, "SELECT id FROM BILLS ORDER BY id", want{rows: ids}},
		{"a table is in quotes", clerk, "SELECT id FROM \"bills\" ORDER BY id", want{rows: ids}},
		{"a table is in brackets", clerk, "SELECT id FROM [bills] ORDER BY id", want{rows: ids}},
		{"a table is in backticks", clerk, "SELECT id FROM `bills` ORDER BY id", want{rows: ids}},
		{"a table has another name", clerk, "SELECT x.id FROM bills AS x ORDER BY id", want{rows: ids}},
		{"a table takes the name of a shared one", clerk, "SELECT kinds.id FROM bills AS kinds ORDER BY id", want{rows: ids}},
		{"aggregates count no others", clerk, "SELECT count(*) FROM bills", two},
		{"nor sums", clerk, "SELECT sum(amount) FROM bills", want{rows: [][]any{{30.0}}}},
		{"nor windows", clerk, "SELECT max(id) OVER () FROM bills LIMIT 1", two},
		{"nor EXISTS", clerk, "SELECT EXISTS (SELECT 1 FROM bills WHERE id = 3)", want{rows: [][]any{{0.0}}}},
		{"nor IN", clerk, "SELECT 3 IN (SELECT id FROM bills)", want{rows: [][]any{{0.0}}}},
		{"nor IN a table", clerk, "SELECT 1 WHERE (3, 5, 's3cret{') IN bills", want{rows: [][]any(nil)}},
		{"nor a subquery in FROM", clerk, "SELECT count(*) FROM (SELECT * FROM bills)", two},
		{"nor a correlated one", clerk, "SELECT (SELECT count(*) FROM bills b WHERE b.amount <= 10 * k.cost) FROM kinds k ORDER BY 1 DESC LIMIT 1", two},
		{"nor UNION", clerk, "SELECT id FROM bills UNION ALL SELECT id FROM bills WHERE id > 2 ORDER BY 1", want{rows: ids}},
		{"nor EXCEPT", clerk, "SELECT id FROM bills EXCEPT SELECT 1", two},
		{"nor a common table", clerk, "WITH x AS (SELECT * FROM bills) SELECT count(*) FROM x", two},
		{"nor one that is materialized", clerk, "WITH x AS MATERIALIZED (SELECT * FROM bills) SELECT count(*) FROM x", two},
		{"nor one that is not", clerk, "WITH x AS NOT MATERIALIZED (SELECT * FROM bills) SELECT count(*) FROM x WHERE id > 0", two},
		{"nor one with its name", clerk, "WITH bills AS (SELECT 7 AS id) SELECT id FROM bills", want{rows: [][]any{{7.0}}}},
		{"nor one with its name that reads it", clerk, "WITH y AS (SELECT * FROM bills), bills AS (SELECT count(*) AS n FROM y) SELECT n FROM bills", missing("circular")},
		{"nor recursion", clerk, "WITH RECURSIVE r(i) AS (SELECT 0 UNION SELECT b.id FROM bills b JOIN r ON b.id > r.i) SELECT max(i) FROM r", two},
		{"nor joins", clerk, "SELECT count(*) FROM bills a LEFT JOIN bills b ON b.id = a.id + 1 WHERE b.id IS NULL", want{rows: [][]any{{1.0}}}},
		{"nor USING", clerk, "SELECT count(*) FROM (SELECT 3 AS id) JOIN bills USING (id)", want{rows: [][]any{{0.0}}}},
		{"nor NATURAL JOIN", clerk, "SELECT count(*) FROM (SELECT 3 AS id) NATURAL JOIN bills", want{rows: [][]any{{0.0}}}},
		{"nor a RIGHT JOIN", clerk, "SELECT count(*) FROM kinds k RIGHT JOIN bills b ON k.cost = b.amount", two},
		{"nor a FULL JOIN", clerk, "SELECT count(*) FROM kinds k FULL JOIN bills b ON k.cost = b.amount", want{rows: [][]any{{3.0}}}},
		{"nor OR", clerk, "SELECT count(*) FROM bills WHERE id = 1 OR 1 = 1", two},
		{"a shared table is whole", clerk, "SELECT count(*) FROM kinds", two},
		{"an error tells of no other row", clerk, "SELECT id FROM bills WHERE note = 'n1' OR json_extract(note, '$.a') IS NULL ORDER BY id", want{rows: ids}},
		{"nor where it is looked up first", clerk, "SELECT id FROM bills WHERE (id = 3 AND json_extract(note, '$.a') IS NULL) OR (id = 2 AND json_extract(note, '$.a') IS NULL)", two},
		{"nor where it is sorted by", clerk, "SELECT count(*) FROM (SELECT id FROM bills ORDER BY json_extract(iif(note = 'n1', '{}', note), '$.a'))", two},
		{"nor of a number", clerk, "SELECT count(*) FROM bills WHERE abs(-9223372036854775801 - amount) > 0", two},
		{"one of his own is told", clerk, "SELECT count(*) FROM bills WHERE abs(-9223372036854775798 - amount) > 0", missing("integer overflow")},
		{"the tenant is hidden", clerk, "SELECT tenant FROM bills", missing("no such column: tenant; bills has id, amount, note")},
		{"also in conditions", clerk, "SELECT 1 FROM bills WHERE tenant = 'evil'", missing("no such column: tenant")},
		{"also in USING", clerk, "SELECT 1 FROM (SELECT 'evil' AS tenant) JOIN bills USING (tenant)", missing("not present in both")},
		{"there is no number of rows", clerk, "SELECT rowid FROM bills", missing("no such column: rowid")},
		{"nor by its other names", clerk, "SELECT bills.oid, _rowid_ FROM bills", missing("no such column: bills.oid")},
		{"there is no index", clerk, "SELECT id FROM bills INDEXED BY bills_tenant", missing("no such index")},
		{"there is no table by its schema", clerk, "SELECT * FROM main.bills", refused(`no table "main.bills"`)},
		{"nor by a quoted one", clerk, `SELECT * FROM "main"."bills"`, refused(`no table "main.bills"`)},
		{"nor in a subquery", clerk, "SELECT (SELECT count(*) FROM main.bills)", refused(`no table "main.bills"`)},
		{"nor in a join", clerk, "SELECT 1 FROM bills JOIN main.bills AS b USING (id)", refused(`no table "main.bills"`)},
		{"nor in a common table", clerk, "WITH bills AS (SELECT * FROM main.bills) SELECT * FROM bills", refused(`no table "main.bills"`)},
		{"nor IN", clerk, "SELECT 3 IN main.bills", refused(`no table "main.bills"`)},
		{"nor by another number", clerk, "SELECT * FROM aux.bills", refused(`no table "aux.bills"`)},
		{"by the schema of the view it is the view", clerk, "SELECT count(*) FROM temp.bills", two},
		{"what the views are is not told", clerk, "SELECT sql FROM temp.sqlite_schema", refused("reading table")},
		{"nor under the older name", clerk, "SELECT sql FROM sqlite_temp_master", refused("reading table")},
		{"nor what is attached", clerk, "SELECT name FROM pragma_database_list", refused("pragma_database_list")},
		{"nothing is attached", clerk, "WITH x AS (SELECT 1) ATTACH 'x' AS y", missing("syntax error")},
		{"a view of the file cannot read rows of tenants", clerk, "SELECT * FROM totals", refused("reading table bills")},
		{"also if it is shared", clerk, "SELECT * FROM shown", refused("reading table bills")},
		{"a column of numbers has no tenants", principal("7", "clerk"), "SELECT count(*) FROM numbers", want{rows: [][]any{{0.0}}}},
		{"text in one has", clerk, "SELECT n FROM numbers", two},
		{"a tenant is text only", principal("' OR '1'='1", "clerk"), "SELECT count(*) FROM bills", want{rows: [][]any{{0.0}}}},
		{"whatever the text", principal(`x'; DROP VIEW bills; --`, "clerk"), "SELECT count(*) FROM bills", want{rows: [][]any{{0.0}}}},
		{"upper case is another tenant", principal("ACME", "clerk"), "SELECT id FROM bills", want{rows: [][]any{{4.0}}}},
		{"a role hides columns", auditor, "SELECT note FROM bills", missing("no such column: note; bills has id, amount")},
		{"a table of another role is not there", auditor, "SELECT * FROM kinds", refused(`no table "kinds"; the tables are bills`)},
		{"one without a tenant sees nothing", principal("", "clerk"), "SELECT 1", refused("those of tenants")},
		{"also of what is shared", principal("", "clerk"), "SELECT * FROM kinds", refused("those of tenants")},
		{"nor with a NUL", principal("acme\x00", "clerk"), "SELECT 1", refused("those of tenants")},
		{"nothing is left behind", clerk, "SELECT * FROM bills ORDER BY id", want{rows: mine}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { // one after the other: there is one connection
			got, err := client.RunSqlQuery(toolkit.WithCaller(t.Context(), tt.caller), &sqlqueryv1.RunSqlQueryRequest{Query: tt.query})
			tt.want.check(t, got, err)
			if tt.want.code == codes.OK && len(got.GetRows()) != len(tt.want.rows) {
				t.Errorf("got rows %v, want %v", rows(got), tt.want.rows)
			}
		})
	}
}
