package sqlitedb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

// A table of which the caller sees only a part is veiled: a temporary view has
// its name, and selects what is visible. Of all that a name without a schema can
// mean, SQLite takes the temporary one first; and with a schema nothing can be
// named, for the file has a random one, and main is an empty database. The guard
// lets nothing else read the table: within a view of ours, what asks for it is
// a common table with a random name, the pass, that is for one query.

// veiled reports whether something of a table is not visible.
func veiled(t access.Table) bool { return len(t.Hidden) > 0 || t.Rows != nil }

// veil makes the views for one query, of what was found of the tables. They end
// with its transaction. A table that was not found is left without one, and
// cannot be read.
func (s *session) veil(ctx context.Context, conn *sql.Conn, scope access.Scope, found []layout) error {
	s.guard.pass = ""
	var views []string
	pass := "p" + rand.Text()
	for _, t := range scope.Tables {
		i := slices.IndexFunc(found, func(l layout) bool { return l.name == t.Name })
		if i >= 0 && veiled(t) {
			views = append(views, view(t, found[i].columns, s.guard.file, pass))
		}
	}
	if len(views) == 0 {
		return nil
	}
	err := s.guard.trusted(func() (err error) {
		if _, err := conn.ExecContext(ctx, "PRAGMA query_only = 0"); err != nil {
			return err
		}
		defer func() {
			_, e := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA query_only = 1")
			err = errors.Join(err, e)
		}()
		for _, v := range views {
			if _, err := conn.ExecContext(ctx, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("make a view: %w", err)
	}
	s.guard.pass = pass
	return nil
}

// view returns the statement that makes the view of a table with its visible
// columns.
//
// Rows are those whose column is exactly this text: not by the rules of the
// column, which may think that upper and lower case are the same, or make a
// number of it. LIMIT -1 is no limit, but with one SQLite does not move
// conditions of the query into the view, where they would be computed for hidden
// rows as well and could tell of these by an error.
func view(t access.Table, visible []string, file, pass string) string {
	columns := quoted(visible)
	from := "SELECT " + columns + " FROM " + quote(file) + "." + quote(t.Name)
	if r := t.Rows; r != nil {
		tenant := quote(r.Column)
		from += " WHERE " + tenant + " = " + literal(r.Value) + " COLLATE BINARY AND typeof(" + tenant + ") = 'text' LIMIT -1"
	}
	return "CREATE TEMP VIEW " + quote(t.Name) + " (" + columns + ") AS" +
		" WITH " + quote(pass) + " AS (" + from + ") SELECT " + columns + " FROM " + quote(pass)
}

// literal quotes text, which has no NUL.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
