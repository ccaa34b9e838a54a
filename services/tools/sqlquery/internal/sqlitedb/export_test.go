package sqlitedb

import (
	"context"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

// Guarded compiles a query on the file with the guard alone, as if it had got
// past the shadow.
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
	if _, err = s.checkProgram(ctx, conn, query, nil); err != nil {
		return s.guard.explain(ctx, err)
	}
	return nil
}
