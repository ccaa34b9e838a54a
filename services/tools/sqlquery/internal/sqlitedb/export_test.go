package sqlitedb

import (
	"context"
	"strings"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

// Guarded compiles a query on the file with the guard alone, as if it had got
// past the shadow. In the query $FILE and $PASS stand for what it cannot know.
func (d *DB) Guarded(ctx context.Context, scope access.Scope, query string) error {
	s := <-d.sessions
	defer func() { d.sessions <- s }()
	s.guard.policy, s.guard.refused = newPolicy(scope, d.functions), ""
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := d.limit(conn); err != nil {
		return err
	}
	// What is done before a query is compiled, with the shadow passed over.
	var tables []layout
	for _, t := range scope.Tables {
		l, err := s.lay(ctx, conn, t)
		if err != nil {
			return err
		}
		if len(l.columns) > 0 {
			tables = append(tables, l)
		}
	}
	if err := s.guard.trusted(func() error { _, err := conn.ExecContext(ctx, "BEGIN"); return err }); err != nil {
		return err
	}
	defer func() {
		_ = s.guard.trusted(func() error { _, err := conn.ExecContext(ctx, "ROLLBACK"); return err })
	}()
	if err := s.veil(ctx, conn, scope, tables); err != nil {
		return err
	}
	query = strings.NewReplacer("$FILE", s.guard.file, "$PASS", s.guard.pass).Replace(query)
	if _, err = s.checkProgram(ctx, conn, query, nil); err != nil {
		return s.guard.explain(ctx, err)
	}
	return nil
}
