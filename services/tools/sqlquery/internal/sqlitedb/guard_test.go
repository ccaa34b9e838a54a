package sqlitedb_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/sqlitedb"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/table"
)

// The shadow sorts out queries first. The guard must hold without it.
func TestGuardAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	db := sql.OpenDB(demodb.Connector(path, ""))
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
		CREATE TABLE salaries (id INTEGER PRIMARY KEY, secret TEXT); CREATE INDEX by_secret ON salaries (secret);
		CREATE VIEW leak AS SELECT secret FROM salaries; CREATE VIRTUAL TABLE search USING fts5(words)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	d := sqlitedb.Open(sqlitedb.Config{
		Path: path, Functions: []string{"count", "group_concat"}, Connections: 1, MaxValue: 1 << 16, MaxSpill: 1 << 20, Limits: table.Limits{Rows: 1, Bytes: 1},
	})
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	scope := access.Scope{Tables: []access.Table{{Name: "people"}}}
	for _, query := range []string{"SELECT count(*) FROM people", "SELECT COUNT(*), Group_Concat(name) FROM People"} {
		if err := d.Guarded(t.Context(), scope, query); err != nil {
			t.Errorf("%s, of a listed table: %v", query, err)
		}
	}
	for query, text := range map[string]string{
		"SELECT * FROM salaries":                                                           "reading table salaries",
		"SELECT count(*) FROM salaries":                                                    "reading table salaries",
		"SELECT EXISTS (SELECT 1 FROM salaries)":                                           "reading table salaries",
		"WITH people AS (SELECT * FROM salaries) SELECT * FROM people":                     "reading table salaries",
		"SELECT people.secret FROM salaries AS people":                                     "reading table salaries",
		`SELECT * FROM "$FILE"."salaries"`:                                                 "reading table salaries",
		"SELECT * FROM $FILE.sqlite_schema":                                                "reading table sqlite_master",
		"SELECT 1 FROM (SELECT 1 AS secret) JOIN $FILE.salaries USING (secret)":            "reading table salaries",
		"SELECT 1 WHERE (1, 's3cret') IN salaries":                                         "reading table salaries",
		"SELECT * FROM leak":                                                               "reading table",
		"SELECT sql FROM sqlite_master":                                                    "reading table sqlite_master",
		"SELECT count(*) FROM sqlite_schema":                                               "reading",
		"SELECT (SELECT group_concat(sql) FROM sqlite_master)":                             "reading table sqlite_master",
		"SELECT * FROM pragma_table_info('people')":                                        "pragma_table_info",
		"SELECT * FROM search":                                                             "",
		"SELECT 1 FROM (SELECT 'x' AS secret) JOIN salaries USING (secret)":                "reading table salaries",
		"SELECT 1 FROM (SELECT 'x' AS secret) NATURAL JOIN salaries":                       "reading table salaries",
		"SELECT count(secret) FROM (SELECT 1 AS secret) LEFT JOIN salaries USING (secret)": "reading table salaries",
		"SELECT 1 FROM (SELECT 'salaries' AS name) JOIN sqlite_master USING (name)":        "reading",
		"SELECT 1 FROM (SELECT 'hello' AS words) JOIN search USING (words)":                "",
		"SELECT 1 FROM (SELECT 1 AS value) JOIN json_each('[1]') USING (value)":            "",
		"WITH x AS (SELECT 1) DELETE FROM people":                                          "deleting from table people",
		"WITH x AS (SELECT 1) INSERT INTO people SELECT 1, 'x'":                            "inserting into table people",
		"PRAGMA query_only = 0":                                                            "PRAGMA query_only",
		"ATTACH DATABASE ':memory:' AS e":                                                  "attaching",
		"SELECT load_extension('x')":                                                       "load_extension",
	} {
		err := d.Guarded(t.Context(), scope, query)
		if !fault.Is(err, sqlqueryv1.Reason_REASON_REFUSED) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got error %v, want a refusal with %q", query, err, text)
		}
	}
}

// Even a query that knew what it cannot know would have to know both: the name of
// the file, and the pass.
func TestVeilAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	db := sql.OpenDB(demodb.Connector(path, ""))
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE bills (id INTEGER PRIMARY KEY, tenant TEXT, amount INT);
		CREATE TABLE salaries (secret TEXT); CREATE VIEW sums AS SELECT sum(amount) AS s FROM bills; CREATE VIEW amounts AS SELECT amount, tenant FROM bills`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	d := sqlitedb.Open(sqlitedb.Config{
		Path: path, Functions: []string{"count"}, Connections: 1, MaxValue: 1 << 16, MaxSpill: 1 << 20, Limits: table.Limits{Rows: 1, Bytes: 1},
	})
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	acme := &access.Rows{Column: "tenant", Value: "acme"}
	scope := access.Scope{Tables: []access.Table{{Name: "bills", Rows: acme, Hidden: []string{"tenant"}}, {Name: "amounts", Rows: acme}, {Name: "sums"}}}
	for _, query := range []string{"SELECT * FROM bills", "SELECT count(*) FROM BILLS b JOIN bills USING (id)", "SELECT * FROM temp.bills", "SELECT 1"} {
		if err := d.Guarded(t.Context(), scope, query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
	for _, query := range []string{
		"SELECT amount FROM $FILE.bills", "SELECT * FROM $FILE.bills", "SELECT count(amount) FROM $FILE.bills", "SELECT 1 WHERE 1 IN (SELECT id FROM $FILE.bills)",
		"WITH bills AS (SELECT * FROM $FILE.bills) SELECT * FROM bills", "WITH x AS (SELECT id FROM bills) SELECT * FROM x JOIN $FILE.bills b ON b.amount = x.id",
		"WITH x AS (SELECT * FROM bills) SELECT rowid FROM $FILE.bills", "WITH $PASS AS (SELECT secret FROM $FILE.salaries) SELECT * FROM $PASS", "SELECT (SELECT max(tenant) FROM $FILE.bills)", "SELECT * FROM sums", "SELECT * FROM amounts",
		"SELECT id FROM bills UNION SELECT id FROM $FILE.bills",
	} {
		if err := d.Guarded(t.Context(), scope, query); !fault.Is(err, sqlqueryv1.Reason_REASON_REFUSED) {
			t.Errorf("%s: got error %v, want a refusal", query, err)
		}
	}
	// This is how the views themselves read.
	if err := d.Guarded(t.Context(), scope, "WITH $PASS AS (SELECT tenant FROM $FILE.bills) SELECT * FROM $PASS"); err != nil {
		t.Errorf("with both names: %v", err)
	}
}
