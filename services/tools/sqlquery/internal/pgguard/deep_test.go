//go:build cgo

package pgguard_test

import (
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
)

// The parser and what writes its trees down are written in C, where a stack that
// is too deep ends the process. A query has at most 10,000 characters.
func TestDeepQueries(t *testing.T) {
	t.Parallel()
	if _, err := write("SELECT '" + strings.Repeat("x", 10_000) + "'"); !fault.Is(err, sqlqueryv1.Reason_REASON_QUERY) {
		t.Errorf("a query that is too long: got error %v", err)
	}
	for _, n := range [][3]string{
		{"(", "1", ")"},
		{"NOT ", "true", ""},
		{"-", "1", ""},
		{"- ", "1", ""},
		{"1+", "1", ""},
		{"", "1", "+1"},
		{"'a'||", "'b'", ""},
		{"abs(", "1", ")"},
		{"(SELECT ", "1", ")"},
		{"CASE WHEN true THEN ", "1", " END"},
		{"ARRAY[", "1", "]"},
		{"ROW(", "1", ")"},
		{"", "1", "::int"},
		{"", "a", "[1]"},
		{"a[", "1", "]"},
		{"true AND ", "true", ""},
		{"1=1 OR (", "true", ")"},
		{"1 IN (", "1", ")"},
		{"coalesce(", "1", ")"},
		{"EXISTS(SELECT ", "1", ")"},
		{"1,", "1", ""},
		{"CAST(", "1", " AS int)"},
		{"", "1", " IS NULL"},
		{"", "1", " UNION SELECT 1"},
		{"1 UNION ((SELECT ", "1", "))"},
		{"", "1 FROM orders", ",orders"},
		{"", "1 FROM orders", " NATURAL JOIN orders"},
		{"1 FROM (SELECT ", "1", ") x"},
		{"1 FROM ((", "orders JOIN people ON true", "))"},
		{"(WITH a AS (SELECT 1) SELECT ", "1", ")"},
		{"", "'a'", " COLLATE \"C\""},
		{"", "1", " BETWEEN 1 AND 2 "},
		{"1 < ALL (SELECT ", "1", ")"},
		{"- - + ", "1", ""},
		{"~ ", "1", ""},
		{"@-", "1", ""},
	} {
		times := (10_000 - len("SELECT ") - len(n[1])) / len(n[0]+n[2])
		for _, k := range []int{times, times / 2, times / 5, times / 20} {
			query := "SELECT " + strings.Repeat(n[0], k) + n[1] + strings.Repeat(n[2], k)
			text, err := write(query)
			if err != nil && !fault.Is(err, sqlqueryv1.Reason_REASON_REFUSED) && !fault.Is(err, sqlqueryv1.Reason_REASON_QUERY) {
				t.Errorf("%q, %d times: got error %v, want a fault", n, k, err)
			}
			if err != nil && len(err.Error()) > 2000 {
				t.Errorf("%q, %d times: the message has %d bytes", n, k, len(err.Error()))
			}
			if len(text) > 1<<20 {
				t.Errorf("%q, %d times: became %d bytes", n, k, len(text))
			}
		}
	}
}
