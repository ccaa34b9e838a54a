package sqlquery_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*sqlquery.Config)
		want   []string // of the error; none is fine
	}{
		{"the defaults are fine", func(*sqlquery.Config) {}, nil},
		{"a hidden column of a listed table is fine", func(c *sqlquery.Config) { c.Hidden = []string{"CUSTOMERS.email"} }, nil},
		{"a hidden column of another table is a mistake", func(c *sqlquery.Config) { c.Hidden = []string{"salaries.secret"} }, []string{"hidden"}},
		{"a hidden table is a mistake", func(c *sqlquery.Config) { c.Hidden = []string{"customers"} }, []string{"hidden"}},
		{"nothing to read is a mistake", func(c *sqlquery.Config) { c.Tables = nil }, []string{"tables"}},
		{"a password in the DSN is a mistake", func(c *sqlquery.Config) { c.DSN = "postgres://a:b@c/d" }, []string{"dsn_file"}},
		{
			"what roles may read is of what may be read",
			func(c *sqlquery.Config) {
				c.Roles = map[string]sqlquery.Grant{"a": {Tables: []string{"salaries"}, Hidden: []string{"orders.id", "salaries"}}}
			},
			[]string{`roles: a: tables: "salaries"`, `roles: a: hidden: "orders.id"`, `roles: a: hidden: "salaries"`},
		},
		{
			"of each table it is said whose its rows are",
			func(c *sqlquery.Config) {
				c.MaxCost = -1
				c.Tenants = &sqlquery.Tenants{Columns: []string{"customers.country", "orders.id", "x.y"}, Shared: []string{"orders"}}
			},
			[]string{"max_cost", `"x.y"`, `table "orders"`, `table "products"`},
		},
		{
			"all mistakes are told at once",
			func(c *sqlquery.Config) {
				*c = sqlquery.Config{DSN: "x", MaxRows: 1e6, MaxBytes: -1, Timeout: time.Hour, Connections: 1000}
			},
			[]string{"dsn", "max_rows", "max_bytes", "max_value", "max_spill", "timeout", "connections", "tables"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := sqlquery.DefaultConfig()
			tt.change(&cfg)
			err := cfg.Validate()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("Validate: got error %v, want one: %v", err, tt.want != nil)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("Validate: got error %q, want one about %s", err, w)
				}
			}
		})
	}
}
