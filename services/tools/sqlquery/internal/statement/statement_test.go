package statement_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/statement"
)

func TestScan(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, query string
		want        statement.Text
	}{
		{"nothing is nothing", "", statement.Text{}},
		{"comments and blanks are nothing", " -- a\n/* b */\t;", statement.Text{}},
		{"a comment that does not end is nothing", "/* SELECT", statement.Text{}},
		{"the first word comes in upper case", "select 1", statement.Text{First: "SELECT"}},
		{"comments do not hide the first word", "/* SELECT */ -- SELECT\nDROP TABLE t", statement.Text{First: "DROP"}},
		{"parentheses are passed over", "((values (1)))", statement.Text{First: "VALUES"}},
		{"semicolons before are passed over, and count", "; SELECT 1", statement.Text{First: "SELECT", Several: true}},
		{"a semicolon at the end is no second statement", "SELECT 1; ; -- end\n", statement.Text{First: "SELECT"}},
		{"what follows a semicolon is", "SELECT 1; DROP TABLE t", statement.Text{First: "SELECT", Several: true}},
		{"a semicolon in quotes is text", `SELECT ';''; x', ";"";x", [;x], ` + "`;``;x`", statement.Text{First: "SELECT"}},
		{"quotes that do not end swallow the rest", "SELECT 'a; DROP", statement.Text{First: "SELECT"}},
		{"placeholders are counted", "SELECT ?, '?', ? -- ?", statement.Text{First: "SELECT", Placeholders: 2}},
		{"numbers of placeholders are respected", "SELECT ?3, ?", statement.Text{First: "SELECT", Placeholders: 4}},
		{"a number that is too large does not count", "SELECT ?99999999999999999999", statement.Text{First: "SELECT"}},
		{"the first named placeholder is told", "SELECT :id, $1, @x", statement.Text{First: "SELECT", Named: ":id"}},
		{"a sign can be first", "] SELECT", statement.Text{First: "]"}},
		{"a dollar in a word is no placeholder", "SELECT a$1", statement.Text{First: "SELECT"}},
		{"casts have no placeholder", "SELECT 1::text, a :: int", statement.Text{First: "SELECT"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, statement.Scan(tt.query)); diff != "" {
				t.Errorf("Scan(%q) (-want +got):\n%s", tt.query, diff)
			}
		})
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{"", "SELECT 1;", "'", "/*", "--", "[", "?", "\xff\xfe", "é;é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got := statement.Scan(query)
		if diff := cmp.Diff(got, statement.Scan("-- ;\n/* ; */\t"+query)); diff != "" {
			t.Errorf("Scan(%q): differs with comments before it (-without +with):\n%s", query, diff)
		}
		if got.Placeholders < 0 {
			t.Errorf("Scan(%q): got %d placeholders", query, got.Placeholders)
		}
	})
}
