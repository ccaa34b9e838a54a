// Package table collects the rows of a result within limits, and turns values
// of a database into values of JSON and back.
package table

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
)

// maxName is how much of the name of a column is kept. Without an alias its
// name is the text of the expression, which may be as long as the query.
const maxName = 128

// Limits bound a result.
type Limits struct {
	Rows  int // at most this many rows
	Bytes int // at most this much, counted as the text of all values
}

// Table is a result that grows. The zero value has no room for rows; call [New].
type Table struct {
	limits    Limits
	bytes     int
	columns   []string
	rows      []*structpb.ListValue
	truncated bool
}

// New returns an empty table.
func New(limits Limits) *Table { return &Table{limits: limits} }

// Name sets the names of the columns.
func (t *Table) Name(columns []string) {
	t.columns = make([]string, len(columns))
	for i, c := range columns {
		c = strings.ToValidUTF8(c, "\uFFFD")
		if utf8.RuneCountInString(c) > maxName {
			c = string([]rune(c)[:maxName]) + "…"
		}
		t.columns[i] = c
	}
}

// Add adds a row, or marks the table as truncated and returns false if there is
// no room for it. A first row without room is a fault, since a table without
// rows would look like an empty result.
func (t *Table) Add(values []*structpb.Value) (bool, error) {
	size := 0
	for _, v := range values {
		size += len(v.GetStringValue()) + 8
	}
	if len(t.rows) == 0 && size > t.limits.Bytes {
		return false, TooLarge()
	}
	if len(t.rows) >= t.limits.Rows || t.bytes+size > t.limits.Bytes {
		t.truncated = true
		return false, nil
	}
	t.bytes += size
	t.rows = append(t.rows, &structpb.ListValue{Values: values})
	return true, nil
}

// Response returns the table as an answer.
func (t *Table) Response() *sqlqueryv1.RunSqlQueryResponse {
	return &sqlqueryv1.RunSqlQueryResponse{
		Columns:   t.columns,
		Rows:      t.rows,
		RowCount:  int32(len(t.rows)),
		Truncated: t.truncated,
	}
}

// TooLarge returns the fault of a value or row that is larger than allowed.
func TooLarge() error {
	return fault.New(codes.ResourceExhausted, sqlqueryv1.Reason_REASON_TOO_LARGE,
		"a value in the query or its result is too large: select fewer or shorter values")
}
