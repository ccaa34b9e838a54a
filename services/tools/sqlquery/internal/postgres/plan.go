package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/pgguard"
)

// lookUp returns the columns of tables, in their order, as they are within the
// transaction. A table that does not exist has none.
func lookUp(ctx context.Context, conn *pgconn.PgConn, tables []pgguard.Name) (pgguard.Columns, error) {
	out := make(pgguard.Columns)
	if len(tables) == 0 {
		return out, nil
	}
	values, holders := make([][]byte, len(tables)), make([]string, len(tables))
	for i, t := range tables {
		values[i] = []byte(pgx.Identifier{t.Schema, t.Table}.Sanitize())
		holders[i] = fmt.Sprintf("($%d::text, %d)", i+1, i)
	}
	query := "SELECT t.i, a.attname, has_column_privilege(a.attrelid, a.attnum, 'SELECT')" +
		" FROM (VALUES " + strings.Join(holders, ", ") + ") t (name, i)" +
		" JOIN pg_catalog.pg_attribute a ON a.attrelid = to_regclass(t.name) AND a.attnum > 0 AND NOT a.attisdropped" +
		" ORDER BY t.i, a.attnum"
	r := conn.ExecParams(ctx, query, values, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, fmt.Errorf("look up columns: %w", r.Err)
	}
	for _, row := range r.Rows {
		i, err := strconv.Atoi(string(row[0]))
		if err != nil || i >= len(tables) {
			return nil, fmt.Errorf("look up columns: table %q of %d", row[0], len(tables))
		}
		out[tables[i]] = append(out[tables[i]], pgguard.Column{Name: string(row[1]), Readable: string(row[2]) == "t"})
	}
	return out, nil
}

// estimate refuses a query whose cost, as the server's planner estimates it, is
// over the limit. What the planner thinks is a guess and no bound: that is the
// time limit.
func (d *DB) estimate(ctx context.Context, conn *pgconn.PgConn, query string, values [][]byte, types []uint32) error {
	if d.cfg.MaxCost == 0 {
		return nil
	}
	r := conn.ExecParams(ctx, "EXPLAIN (FORMAT JSON)\n"+query, values, types, nil, nil).Read()
	if r.Err != nil {
		return r.Err
	}
	var plan []struct {
		Plan struct {
			Cost *float64 `json:"Total Cost"`
		}
	}
	if len(r.Rows) != 1 {
		return fmt.Errorf("explain: %d rows", len(r.Rows))
	}
	if err := json.Unmarshal(r.Rows[0][0], &plan); err != nil || len(plan) != 1 || plan[0].Plan.Cost == nil { // fails closed
		return fmt.Errorf("explain: no cost: %w", err)
	}
	if cost := *plan[0].Plan.Cost; !(cost <= float64(d.cfg.MaxCost)) {
		// How much it is would tell of rows that the caller may not see.
		return fault.New(codes.ResourceExhausted, sqlqueryv1.Reason_REASON_TOO_LARGE,
			"the query would be too dear by the estimate of the database: join on keys, filter more, or read less")
	}
	return nil
}
