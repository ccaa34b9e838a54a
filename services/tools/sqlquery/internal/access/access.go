// Package access says what of a database one caller may read.
//
// It knows names only. The engines' packages see to it that a query reads
// nothing else.
package access

import (
	"slices"
	"strings"
)

// Scope is what one caller may read: these tables, and no others. The zero value
// is nothing. A scope is not changed once it is made.
type Scope struct {
	Tables []Table
}

// Table is a table or view that may be read, as far as it may.
type Table struct {
	// Schema is where the table is, in PostgreSQL; empty in SQLite.
	Schema string
	// Name is what a query calls the table.
	Name string
	// Hidden are columns that for the caller do not exist.
	Hidden []string
	// Rows is what rows there are for the caller; nil is all.
	Rows *Rows
}

// Rows are those with a value in a column.
type Rows struct {
	Column, Value string
}

// Hides reports whether a column does not exist for the caller. Upper and lower
// case are the same, in doubt for more than was meant.
func (t Table) Hides(column string) bool {
	return slices.ContainsFunc(t.Hidden, func(h string) bool { return strings.EqualFold(h, column) })
}

// Fits reports whether all that is said of the columns is of columns that there
// are. Where it is not, a name is misspelt, and something is not hidden that
// should be.
func (t Table) Fits(columns []string) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(columns, func(c string) bool { return strings.EqualFold(c, name) })
	}
	for _, h := range t.Hidden {
		if !has(h) {
			return false
		}
	}
	return t.Rows == nil || has(t.Rows.Column)
}

// Names returns what queries may call the tables, sorted, for messages.
func (s Scope) Names() []string {
	out := make([]string, len(s.Tables))
	for i, t := range s.Tables {
		out[i] = t.Name
		if t.Schema != "" && t.Schema != DefaultSchema {
			out[i] = t.Schema + "." + t.Name
		}
	}
	slices.Sort(out)
	return out
}

// DefaultSchema is where a table is whose schema is not said, in PostgreSQL.
const DefaultSchema = "public"
