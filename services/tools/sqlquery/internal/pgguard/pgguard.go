// Package pgguard decides from the parse tree of a query for PostgreSQL whether
// it may run, and writes down what shall run in its place.
//
// The parser is PostgreSQL's own (libpg_query), so the tree is the one that the
// server sees. Everything that is not on a list is refused: kinds of nodes,
// functions, types, tables. What is left is one SELECT that reads the tables of
// a scope and computes.
//
// The text that runs is written from the tree, with tables by their full names.
// It is meant for a session whose search_path is pg_catalog alone: there a name
// that was not replaced finds no table of a user, and a function or operator can
// be none but PostgreSQL's own. Tables of which something is hidden are replaced
// by subqueries that lack the hidden columns and rows, so that for the query
// these do not exist: not for *, a whole row, NATURAL JOIN, or messages.
//
// Without cgo there is no parser, and every query is refused.
package pgguard

import (
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

// Columns are the columns of tables, in their order.
type Columns map[Name][]Column

// Column is a column, and whether the reader has the right to read it.
type Column struct {
	Name     string
	Readable bool
}

// Name is the full name of a table.
type Name struct{ Schema, Table string }

// Guard checks queries. Its methods are safe for concurrent use.
type Guard struct {
	functions map[string]bool
}

// New returns a guard that lets queries call the listed functions of
// pg_catalog, or [Functions] if there are none.
func New(functions []string) *Guard {
	if len(functions) == 0 {
		functions = Functions()
	}
	return &Guard{functions: set(functions)}
}

func set(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}

func refused(format string, args ...any) *fault.Error {
	return fault.New(codes.PermissionDenied, sqlqueryv1.Reason_REASON_REFUSED, "only read queries on the listed tables are allowed: "+format, args...)
}

func wrong(format string, args ...any) *fault.Error {
	return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_QUERY, format, args...)
}

// find returns the table of a scope that a query means, if there is one.
func find(scope access.Scope, schema, name string) (access.Table, bool) {
	if schema == "" {
		schema = access.DefaultSchema
	}
	for _, t := range scope.Tables {
		own := t.Schema
		if own == "" {
			own = access.DefaultSchema
		}
		if own == schema && t.Name == name {
			t.Schema = own
			return t, true
		}
	}
	return access.Table{}, false
}
