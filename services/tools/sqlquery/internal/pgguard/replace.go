//go:build cgo

package pgguard

import (
	"strings"

	"github.com/jackc/pgx/v5"
	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

// found are the places of a tree where tables of the scope are named.
type found struct {
	tables  []place
	columns []*pg.ColumnRef // schema.table.column
}

// place is a node in FROM that means a table.
type place struct {
	node  *pg.Node
	table access.Table
}

func nameOf(t access.Table) Name { return Name{t.Schema, t.Name} }

// replace gives all tables their full names, and replaces those of which
// something is hidden.
func (f found) replace(columns Columns) error {
	for _, r := range f.columns {
		r.Fields = r.GetFields()[1:] // tables have no schema any more
	}
	for _, p := range f.tables {
		if err := p.replace(columns[nameOf(p.table)]); err != nil {
			return err
		}
	}
	return nil
}

// replace writes into the place what shall be read in it, given all columns of
// the table.
func (p place) replace(columns []Column) error {
	v, t := p.node.GetRangeVar(), p.table
	if v.GetAlias() == nil {
		v.Alias = &pg.Alias{Aliasname: v.GetRelname()}
	}
	var all, visible []string
	for _, c := range columns {
		all = append(all, c.Name)
		if c.Readable && !t.Hides(c.Name) {
			visible = append(visible, pgx.Identifier{c.Name}.Sanitize())
		}
	}
	if len(visible) == 0 || !t.Fits(all) { // also if the table does not exist; fails closed
		return refused("table %q cannot be read: it is not as the configuration of this tool says", t.Name)
	}
	v.Schemaname = t.Schema
	if t.Rows == nil && len(visible) == len(columns) {
		return nil
	}
	tree, err := pg.Parse(selection(t, visible, v.GetInh()))
	if err != nil {
		return err
	}
	p.node.Node = &pg.Node_RangeSubselect{RangeSubselect: &pg.RangeSubselect{
		Subquery: tree.GetStmts()[0].GetStmt(), Alias: v.GetAlias(),
	}}
	return nil
}

// selection returns a query of what is visible of a table.
//
// OFFSET 0 keeps the planner from moving conditions of the query into the
// subquery, where they would be computed for hidden rows as well, and could tell
// of these by an error such as a division by zero.
func selection(t access.Table, visible []string, inherited bool) string {
	var b strings.Builder
	b.WriteString("SELECT " + strings.Join(visible, ", ") + " FROM ")
	if !inherited {
		b.WriteString("ONLY ")
	}
	b.WriteString(pgx.Identifier{t.Schema, t.Name}.Sanitize())
	if t.Rows != nil {
		b.WriteString(" WHERE " + pgx.Identifier{t.Rows.Column}.Sanitize() + " = " + literal(t.Rows.Value) + " OFFSET 0")
	}
	return b.String()
}

// literal quotes text where standard_conforming_strings is on.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
