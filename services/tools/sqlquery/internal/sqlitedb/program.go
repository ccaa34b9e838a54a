package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

// checkProgram compiles the query and looks at which b-trees and virtual tables
// the program opens. Anything but a listed table, or an index of one, is
// refused.
//
// SQLite does not ask its authorizer about columns that it compares on its own
// account, in JOIN … USING and NATURAL JOIN. With the authorizer alone, such a
// join would tell whether a value is in a table that may not be read.
//
// It returns how many columns the result has.
func (s *session) checkProgram(ctx context.Context, conn *sql.Conn, query string, args []any) (width int, err error) {
	p, err := explainOn(ctx, conn, query, args)
	if err != nil || len(p.opened) == 0 {
		return p.width, err
	}
	roots, err := s.roots(ctx, conn)
	if err != nil {
		return 0, err
	}
	for _, o := range p.opened {
		name, ok := roots[o.root]
		switch {
		case o.virtual:
			s.guard.deny("virtual tables")
		case o.database != attached || !ok:
			s.guard.deny("reading the schema or temporary tables")
		case !s.guard.policy.tables[strings.ToLower(name)]:
			s.guard.deny("reading table " + name)
		}
	}
	if s.guard.refused != "" {
		return 0, errors.New("the program opens what may not be read")
	}
	return p.width, nil
}

// program is what is told of a compiled query.
type program struct {
	opened []cursor
	width  int // columns of the result
}

// cursor is something that a program opens.
type cursor struct {
	virtual  bool
	root     int64 // page where the table or index begins
	database int64 // 0 is main, 1 is temp, then what is attached
}

// attached is the number of the file.
const attached = 2

// explainOn compiles a query, and does not run it.
func explainOn(ctx context.Context, conn *sql.Conn, query string, args []any) (out program, err error) {
	rows, err := conn.QueryContext(ctx, "EXPLAIN "+query, args...)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var op string
		var p2, p3 int64
		var skip sql.RawBytes
		if err := rows.Scan(&skip, &op, &skip, &p2, &p3, &skip, &skip, &skip); err != nil {
			return out, err
		}
		switch op {
		case "OpenRead", "OpenWrite", "ReopenIdx":
			out.opened = append(out.opened, cursor{root: p2, database: p3})
		case "VOpen":
			out.opened = append(out.opened, cursor{virtual: true})
		case "ResultRow":
			out.width = int(p2)
		}
	}
	return out, rows.Err()
}

// roots returns to which table each page belongs that begins a table or index.
func (s *session) roots(ctx context.Context, conn *sql.Conn) (out map[int64]string, err error) {
	var rows *sql.Rows
	err = s.guard.trusted(func() error {
		rows, err = conn.QueryContext(ctx, "SELECT rootpage, tbl_name FROM "+quote(s.guard.file)+".sqlite_schema WHERE rootpage > 0")
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = make(map[int64]string)
	for rows.Next() {
		var root int64
		var name string
		if err := rows.Scan(&root, &name); err != nil {
			return nil, err
		}
		out[root] = name
	}
	return out, rows.Err()
}
