package sqlquery

import (
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

// scope returns what a caller may read. caller is nil where it is not known. It
// fails closed: without a role that is configured, where roles are, and without
// a tenant where rows are of tenants, a caller may read nothing.
func (c Config) scope(caller *authv1.Principal) (access.Scope, error) {
	grants := []Grant{{Tables: c.Tables}}
	if len(c.Roles) > 0 {
		grants = nil
		for _, role := range caller.GetRoles() {
			if g, ok := c.Roles[role]; ok {
				grants = append(grants, g)
			}
		}
		if len(grants) == 0 {
			return access.Scope{}, denied("none of the roles of this caller may query this database: ask for a role that may")
		}
	}
	var scope access.Scope
	for _, name := range c.Tables {
		t, ok := c.table(name, grants)
		if !ok {
			continue
		}
		if column, ok := c.Tenants.column(name); ok {
			tenant := caller.GetTenant()
			if tenant == "" || strings.ContainsRune(tenant, 0) {
				return access.Scope{}, denied("the rows here are those of tenants, and this caller has none")
			}
			t.Rows = &access.Rows{Column: column, Value: tenant}
		}
		scope.Tables = append(scope.Tables, t)
	}
	return scope, nil
}

// table returns a table as those who have any of the grants see it: a column is
// hidden if it is so for everybody, or in each grant that has the table.
func (c Config) table(name string, grants []Grant) (access.Table, bool) {
	var t access.Table
	found := false
	for _, g := range grants {
		if !contains(g.Tables, name) {
			continue
		}
		hidden := columnsOf(name, g.Hidden)
		if found {
			hidden = both(t.Hidden, hidden)
		}
		found, t.Hidden = true, hidden
	}
	t.Hidden = append(t.Hidden, columnsOf(name, c.Hidden)...)
	t.Schema, t.Name = splitTable(name)
	return t, found
}

// columnsOf returns the columns of a table in a list of table.column.
func columnsOf(table string, list []string) []string {
	var out []string
	for _, l := range list {
		if t, column, _ := splitColumn(l); strings.EqualFold(t, table) {
			out = append(out, column)
		}
	}
	return out
}

// splitColumn splits table.column or schema.table.column.
func splitColumn(s string) (table, column string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i <= 0 || i == len(s)-1 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// splitTable splits schema.table; the schema may be missing.
func splitTable(s string) (schema, table string) {
	if schema, table, ok := strings.Cut(s, "."); ok {
		return schema, table
	}
	return "", s
}

func contains(list []string, name string) bool {
	for _, l := range list {
		if strings.EqualFold(l, name) {
			return true
		}
	}
	return false
}

// both returns what is in both lists.
func both(a, b []string) []string {
	var out []string
	for _, s := range a {
		if contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

func denied(text string) error {
	return fault.New(codes.PermissionDenied, sqlqueryv1.Reason_REASON_REFUSED, "%s", text)
}
