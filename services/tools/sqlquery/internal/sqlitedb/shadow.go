package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/demodb"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

// shadow is an empty database in memory with the tables of one scope, and of
// them the columns that are visible. A query is compiled there first: what is
// wrong with it is told in words that know of nothing else, and a hidden column
// is not there, just as one that does not exist.
//
// It is no guard. A query that compiles here is compiled on the file next, with
// the guard.
type shadow struct {
	db     *sql.DB
	guard  *guard
	key    string // of the scope and the version of the schema that it is for
	tables []layout
}

// layout is what is visible of a table.
type layout struct {
	name    string
	veiled  bool
	columns []string
}

// follow returns the shadow for a scope and the schema as it is now.
func (d *DB) follow(ctx context.Context, s *session, conn *sql.Conn, scope access.Scope) (*shadow, error) {
	var version int64
	err := s.guard.trusted(func() error {
		return conn.QueryRowContext(ctx, "PRAGMA "+quote(s.guard.file)+".schema_version").Scan(&version)
	})
	if err != nil {
		return nil, err
	}
	key := fmt.Sprint(version)
	for _, t := range scope.Tables {
		key += fmt.Sprintf(" %q%q%t", t.Name, t.Hidden, t.Rows != nil)
	}
	if s.shadow != nil && s.shadow.key == key {
		s.shadow.guard.policy, s.shadow.guard.refused = s.guard.policy, ""
		return s.shadow, nil
	}
	if s.shadow != nil {
		old := s.shadow.db
		s.shadow = nil
		if err := old.Close(); err != nil {
			return nil, err
		}
	}
	fresh := &shadow{guard: &guard{policy: s.guard.policy}, key: key}
	for _, t := range scope.Tables {
		l, err := s.lay(ctx, conn, t)
		if err != nil {
			return nil, err
		}
		if len(l.columns) > 0 {
			fresh.tables = append(fresh.tables, l)
		}
	}
	fresh.db = sql.OpenDB(guarded{demodb.Connector("shadow", "mode=memory&_dqs=0"), fresh.guard, ""})
	fresh.db.SetMaxOpenConns(1)
	if err := fresh.create(ctx, d); err != nil {
		return nil, errors.Join(err, fresh.db.Close())
	}
	s.shadow = fresh
	return fresh, nil
}

// lay returns what is visible of a table: nothing if there is none, or if it has
// not the columns that are to be hidden. It fails closed.
func (s *session) lay(ctx context.Context, conn *sql.Conn, t access.Table) (_ layout, err error) {
	l := layout{name: t.Name, veiled: veiled(t)}
	var rows *sql.Rows
	err = s.guard.trusted(func() error {
		rows, err = conn.QueryContext(ctx, "SELECT name FROM pragma_table_xinfo(?, ?)", t.Name, s.guard.file)
		return err
	})
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return l, err
		}
		all = append(all, name)
		if !t.Hides(name) {
			l.columns = append(l.columns, name)
		}
	}
	if !t.Fits(all) {
		l.columns = nil
	}
	return l, rows.Err()
}

// create makes the tables.
func (h *shadow) create(ctx context.Context, d *DB) error {
	conn, err := h.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // which gives it back
	if err := d.limit(conn); err != nil {
		return err
	}
	return h.guard.trusted(func() error {
		for _, t := range h.tables {
			if _, err := conn.ExecContext(ctx, t.empty()); err != nil {
				return fmt.Errorf("make a table of the shadow: %w", err)
			}
		}
		return nil
	})
}

// empty returns the statement that makes the table in the shadow. What is a view
// on the file is one here: it has no rowid.
func (l layout) empty() string {
	head := quote(l.name) + " (" + quoted(l.columns) + ")"
	if l.veiled {
		return "CREATE TEMP VIEW " + head + " AS SELECT NULL" + strings.Repeat(", NULL", len(l.columns)-1)
	}
	return "CREATE TEMP TABLE " + head
}

// quoted returns a list of names.
func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = quote(n)
	}
	return strings.Join(out, ", ")
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// try compiles a query and returns how many columns its result has. Its errors
// are faults that the caller may see.
func (h *shadow) try(ctx context.Context, query string, args []any) (int, error) {
	conn, err := h.db.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	p, err := explainOn(ctx, conn, query, args)
	if err == nil && h.guard.refused == "" {
		return p.width, nil
	}
	return 0, h.help(h.guard.explain(ctx, err), query)
}

// help adds to a fault what there is, where a name was wrong.
func (h *shadow) help(err error, query string) error {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || !fault.Is(err, sqlqueryv1.Reason_REASON_QUERY) {
		return err
	}
	if name, ok := strings.CutPrefix(f.Message, "no such table: "); ok {
		names := make([]string, len(h.tables))
		for i, t := range h.tables {
			names[i] = t.name
		}
		return fault.New(codes.PermissionDenied, sqlqueryv1.Reason_REASON_REFUSED,
			"only read queries on the listed tables are allowed: there is no table %q; the tables are %s", name, strings.Join(names, ", "))
	}
	if !strings.HasPrefix(f.Message, "no such column: ") {
		return err
	}
	text := f.Message
	for _, t := range h.tables {
		if strings.Contains(strings.ToLower(query), strings.ToLower(t.name)) {
			text += fmt.Sprintf("; %s has %s", t.name, strings.Join(t.columns, ", "))
		}
	}
	return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_QUERY, "%s", text)
}

// unlike is the fault of a query that compiles on what is visible, and on the
// file does not or gives other columns. It says nothing of what is hidden.
func (h *shadow) unlike() error {
	var all []string
	for _, t := range h.tables {
		all = append(all, fmt.Sprintf("%s has %s", t.name, strings.Join(t.columns, ", ")))
	}
	return fault.New(codes.PermissionDenied, sqlqueryv1.Reason_REASON_REFUSED,
		"the query cannot be run on the tables as they are; name them and their columns plainly: %s", strings.Join(all, "; "))
}
