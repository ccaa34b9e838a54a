//go:build postgres

package sqlquery_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/demodb/pgtest"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

// bills have rows of two tenants, one hidden column, and a second schema.
const bills = `
	CREATE TABLE bills (id int PRIMARY KEY, tenant text NOT NULL, amount int NOT NULL, note text);
	INSERT INTO bills VALUES (1, 'acme', 10, 'n1'), (2, 'acme', 20, 'n2'), (3, 'evil', 5, 's3cret(');
	CREATE TABLE kinds (name text PRIMARY KEY, cost int, margin int); INSERT INTO kinds VALUES ('a', 1, 77), ('b', 2, 88);
	CREATE SCHEMA stats; CREATE TABLE stats.days (day date, visits int); INSERT INTO stats.days VALUES ('2026-01-01', 4);
	GRANT USAGE ON SCHEMA stats TO sallyport_reader;
	GRANT SELECT ON bills, stats.days TO sallyport_reader; GRANT SELECT (name, cost) ON kinds TO sallyport_reader`

func scoped(t *testing.T) sqlqueryv1.SqlQueryServiceClient {
	t.Helper()
	s := newServer(t)
	pgtest.Exec(t, s.admin, bills)
	cfg := postgresConfig(s.reader)
	cfg.Tables = []string{"bills", "kinds", "stats.days", "customers"}
	cfg.Hidden = []string{"bills.tenant"}
	cfg.Roles = map[string]sqlquery.Grant{
		"clerk":   {Tables: []string{"bills", "kinds"}, Hidden: []string{"bills.note"}},
		"auditor": {Tables: []string{"bills", "stats.days"}},
	}
	cfg.Tenants = &sqlquery.Tenants{Columns: []string{"bills.tenant"}, Shared: []string{"kinds", "stats.days", "customers"}}
	return serve(t, cfg, t.TempDir())
}

func TestPostgresCallerSeesWhatIsHis(t *testing.T) {
	t.Parallel()
	client := scoped(t)
	refused := func(text string) want {
		return want{code: codes.PermissionDenied, reason: sqlqueryv1.Reason_REASON_REFUSED, text: text}
	}
	missing := func(text string) want {
		return want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: text}
	}
	clerk := &authv1.Principal{Id: "key:1", Tenant: "acme", Roles: []string{"clerk", "other"}}
	mine := &authv1.Principal{Id: "key:8", Tenant: "acme", Roles: []string{"auditor"}}
	auditor := &authv1.Principal{Id: "key:2", Tenant: "evil", Roles: []string{"auditor"}}
	both := &authv1.Principal{Id: "key:3", Tenant: "acme", Roles: []string{"auditor", "clerk"}}
	tests := []struct {
		name   string
		caller *authv1.Principal
		query  string
		want   want
	}{
		{"* is what is visible", clerk, "SELECT * FROM bills ORDER BY id", want{rows: [][]any{{1.0, 10.0}, {2.0, 20.0}}}},
		{"so is a whole row", clerk, "SELECT b FROM bills b ORDER BY id LIMIT 1", want{rows: [][]any{{"(1,10)"}}}},
		{"so is a row as JSON", clerk, "SELECT to_jsonb(bills)::text FROM public.bills ORDER BY id LIMIT 1", want{rows: [][]any{{`{"id": 1, "amount": 10}`}}}},
		{"so is TABLE", clerk, "TABLE bills", want{rows: [][]any{{1.0, 10.0}, {2.0, 20.0}}}},
		{"a schema and a table name a column", clerk, "SELECT public.bills.id FROM public.bills ORDER BY 1", want{rows: [][]any{{1.0}, {2.0}}}},
		{"a schema and a table name all columns", clerk, "SELECT public.bills.* FROM public.bills ORDER BY 1 LIMIT 1", want{rows: [][]any{{1.0, 10.0}}}},
		{"columns may be named anew", clerk, "SELECT x FROM bills AS b (x, y) ORDER BY y DESC", want{rows: [][]any{{2.0}, {1.0}}}},
		{"a hidden column does not exist", clerk, "SELECT note FROM bills", missing(`column "note" does not exist`)},
		{"nor by an alias", clerk, "SELECT b.note FROM bills b", missing("column b.note does not exist")},
		{"nor in WHERE", clerk, "SELECT 1 FROM bills WHERE tenant = 'evil'", missing(`column "tenant" does not exist`)},
		{"nor by USING", clerk, "SELECT 1 FROM bills JOIN (SELECT 'n1' AS note) x USING (note)", missing(`"note"`)},
		{"nor by NATURAL JOIN", clerk, "SELECT count(*) FROM bills NATURAL JOIN (SELECT 's3cret(' AS note) x", want{rows: [][]any{{2.0}}}},
		{"nor by its neighbour", clerk, "SELECT nte FROM bills", missing(`column "nte" does not exist`)},
		{"one that another role shows does", both, "SELECT note FROM bills ORDER BY id", want{rows: [][]any{{"n1"}, {"n2"}}}},
		{"tables of both roles are there", both, "SELECT count(*) FROM kinds, stats.days", want{rows: [][]any{{2.0}}}},
		{"another tenant has other rows", auditor, "SELECT * FROM bills", want{rows: [][]any{{3.0, 5.0, "s3cret("}}}},
		{"a table of another role is not there", auditor, "SELECT * FROM kinds", refused(`no table "kinds"; the tables are bills, stats.days`)},
		{"a table of no role is not there", clerk, "SELECT * FROM customers", refused(`no table "customers"; the tables are bills, kinds`)},
		{"one that nobody has is not there in the same words", clerk, "SELECT * FROM nothing", refused(`no table "nothing"; the tables are bills, kinds`)},
		{"* is what the role of the database may read", clerk, "SELECT * FROM kinds ORDER BY 1", want{rows: [][]any{{"a", 1.0}, {"b", 2.0}}}},
		{"a column that it may not read does not exist", clerk, "SELECT margin FROM kinds", missing(`column "margin" does not exist`)},
		{"a table in a schema", auditor, "SELECT visits FROM stats.days", want{rows: [][]any{{4.0}}}},
		{"which is not in another", auditor, "SELECT visits FROM days", refused(`no table "days"`)},
		{"aggregates see no other tenant", clerk, "SELECT sum(amount), count(*) FROM bills", want{rows: [][]any{{30.0, 2.0}}}},
		{"an error tells of no other tenant", mine, "SELECT id FROM bills WHERE 'n1' ~ note", want{rows: [][]any{{1.0}}}},
		{"a common table may have the name of a table", clerk, "WITH bills AS (SELECT * FROM bills) SELECT count(*) FROM bills", want{rows: [][]any{{2.0}}}},
		{"or of one that is not there", clerk, "WITH customers AS (SELECT 1) SELECT count(*) FROM customers", want{rows: [][]any{{1.0}}}},
		{"but only where it can be seen", clerk, "SELECT * FROM (WITH customers AS (SELECT 1) SELECT * FROM customers) x, customers", refused(`no table "customers"`)},
		{"a part of a compound sees no other's", clerk, "(WITH customers AS (SELECT 1) TABLE customers) UNION SELECT id FROM customers", refused(`no table "customers"`)},
		{"nobody sees nothing", nil, "SELECT 1", refused("none of the roles")},
		{"nor does one without a role", &authv1.Principal{Id: "key:4", Tenant: "acme"}, "SELECT * FROM bills", refused("none of the roles")},
		{"nor one without a tenant", &authv1.Principal{Id: "key:5", Roles: []string{"clerk"}}, "SELECT 1", refused("tenants")},
		{"a tenant is text only", &authv1.Principal{Id: "key:6", Tenant: `' OR '1'='1`, Roles: []string{"clerk"}}, "SELECT * FROM bills", want{rows: [][]any{}}},
		{"a tenant with a backslash too", &authv1.Principal{Id: "key:7", Tenant: `\' OR 1=1 --`, Roles: []string{"clerk"}}, "SELECT count(*) FROM bills", want{rows: [][]any{{0.0}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if tt.caller != nil {
				ctx = toolkit.WithCaller(ctx, tt.caller)
			}
			got, err := client.RunSqlQuery(ctx, &sqlqueryv1.RunSqlQueryRequest{Query: tt.query})
			if len(tt.want.rows) == 0 && len(got.GetRows()) > 0 {
				t.Errorf("got rows %v, want none", rows(got))
			}
			if len(tt.want.rows) > 0 || err != nil {
				tt.want.check(t, got, err)
			}
			if err != nil && strings.Contains(tt.name, "neighbour") && strings.Contains(err.Error(), "note") {
				t.Errorf("the error %q tells of a hidden column", err)
			}
		})
	}
}

// A name in the configuration that fits nothing must not leave open what it was
// to hide.
func TestPostgresMisspeltConfigurationHidesTheTable(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, hidden := range []string{"customers.emial", "customers.name2"} {
		cfg := postgresConfig(s.reader)
		cfg.Hidden = []string{hidden}
		client := serve(t, cfg, t.TempDir())
		_, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT 1 FROM customers"})
		want{code: codes.PermissionDenied, reason: sqlqueryv1.Reason_REASON_REFUSED, text: "configuration"}.check(t, nil, err)
	}
	cfg := postgresConfig(s.reader)
	cfg.Hidden = []string{"Customers.EMAIL"}
	client := serve(t, cfg, t.TempDir())
	_, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT email FROM customers"})
	want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: "does not exist"}.check(t, nil, err)
}
