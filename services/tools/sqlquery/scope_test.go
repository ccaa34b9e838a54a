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

func TestCallerSeesWhatHisRolesSay(t *testing.T) {
	t.Parallel()
	cfg := sqlquery.DefaultConfig()
	cfg.Connections = 1 // so that callers follow each other on one connection
	cfg.Timeout = time.Minute
	cfg.Roles = map[string]sqlquery.Grant{
		"clerk":   {Tables: []string{"customers", "orders"}, Hidden: []string{"customers.email", "customers.country"}},
		"shipper": {Tables: []string{"customers", "products"}, Hidden: []string{"Customers.EMAIL", "customers.plan"}},
	}
	client := serve(t, cfg, newDatabase(t).dir)
	refused := func(text string) want {
		return want{code: codes.PermissionDenied, reason: sqlqueryv1.Reason_REASON_REFUSED, text: text}
	}
	missing := func(text string) want {
		return want{code: codes.InvalidArgument, reason: sqlqueryv1.Reason_REASON_QUERY, text: text}
	}
	tests := []struct {
		name  string
		roles []string
		query string
		want  want
	}{
		{"a role has its tables", []string{"clerk"}, "SELECT count(*) FROM orders", want{rows: [][]any{{400.0}}}},
		{"and not those of others", []string{"clerk"}, "SELECT * FROM products", refused(`no table "products"; the tables are customers, orders`)},
		{"which another has", []string{"shipper"}, "SELECT count(*) FROM products", want{}},
		{"nor its", []string{"shipper"}, "SELECT * FROM orders", refused(`no table "orders"; the tables are customers, products`)},
		{"two roles have the tables of both", []string{"clerk", "shipper"}, "SELECT count(*) > 0 FROM products, orders", want{rows: [][]any{{1.0}}}},
		{"a column is hidden for one", []string{"clerk"}, "SELECT country FROM customers", missing("no such column: country; customers has id, name, plan, created")},
		{"another for the other", []string{"shipper"}, "SELECT plan FROM customers", missing("no such column: plan")},
		{"none of them for who has both", []string{"clerk", "shipper"}, "SELECT plan, country FROM customers WHERE id < 0", want{}},
		{"but what both hide", []string{"clerk", "shipper"}, "SELECT email FROM customers", missing("no such column: email; customers has id, name, country, plan, created")},
		{"an unknown role has nothing", []string{"intern"}, "SELECT 1", refused("none of the roles")},
		{"who has no role has nothing", nil, "SELECT 1", refused("none of the roles")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := toolkit.WithCaller(t.Context(), &authv1.Principal{Id: "key:1", Tenant: "acme", Roles: tt.roles})
			got, err := client.RunSqlQuery(ctx, &sqlqueryv1.RunSqlQueryRequest{Query: tt.query})
			tt.want.check(t, got, err)
		})
	}
	_, err := client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT 1"})
	refused("none of the roles").check(t, nil, err)
}

// The shadow must follow when the schema changes under it.
func TestNewTableIsSeen(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	cfg := sqlquery.DefaultConfig()
	cfg.Connections = 1
	cfg.Tables = append(cfg.Tables, "later")
	client := serve(t, cfg, d.dir)
	ask := func() (*sqlqueryv1.RunSqlQueryResponse, error) {
		return client.RunSqlQuery(t.Context(), &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT a FROM later"})
	}
	_, err := ask()
	want{code: codes.PermissionDenied, text: `no table "later"`}.check(t, nil, err)
	d.exec(t, "CREATE TABLE later (a); INSERT INTO later VALUES (7)")
	got, err := ask()
	want{rows: [][]any{{7.0}}}.check(t, got, err)
}
