package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/demodb/pgpool"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/table"
)

// explain turns an error of the engine into a fault. Only messages about the
// text of the query are passed on.
func explain(ctx context.Context, err error) error {
	var f *fault.Error
	var e *pgconn.PgError
	var long *pgproto3.ExceededMaxBodyLenErr
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &long): // also if the deadline passed while it came
		return table.TooLarge()
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return timeout(err)
	case errors.Is(err, pgpool.ErrConnect) || !errors.As(err, &e):
		return database(err)
	}
	switch e.Code {
	case "57014": // query canceled
		return timeout(err)
	case "42501", "25006": // insufficient privilege, read-only transaction: the guard should have refused before
		return refused("the database refuses the query").Because(err)
	case "0A000", "42P11": // what a cursor cannot do
		return refused("a query that writes, locks rows or selects into a table is refused").Because(err)
	case "08P01": // of what can be wrong in the protocol, only this is the caller's doing
		return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_PARAMETERS,
			"the number of parameters is not that of the placeholders").Because(err)
	case "42P18": // indeterminate datatype
		return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_PARAMETERS, "%s: add a cast", e.Message).Because(err)
	case "54000", "54001": // program limit, stack depth
		return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_QUERY, "the query is too complex").Because(err)
	case "53200", "53400": // memory, space for temporary files
		return fault.New(codes.ResourceExhausted, sqlqueryv1.Reason_REASON_TOO_LARGE,
			"the query needs too much memory: make it read less").Because(err)
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "20", "21", "22", "2B", "34", "42", "44": // what is wrong with the query or its values
		return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_QUERY, "%s", e.Message).Because(err)
	case "25", "28", "2D", "3B", "55", "0L", "0P", "0Z":
		return refused("%s is refused", "that").Because(err)
	}
	return database(err)
}

func refused(format string, args ...any) *fault.Error {
	return fault.New(codes.PermissionDenied, sqlqueryv1.Reason_REASON_REFUSED, "only read queries are allowed: "+format, args...)
}

func timeout(err error) error {
	return fault.New(codes.DeadlineExceeded, sqlqueryv1.Reason_REASON_TIMEOUT,
		"the query took too long and was stopped: make it read less, or less often").Because(err)
}

func database(err error) error {
	return fault.New(codes.Unavailable, sqlqueryv1.Reason_REASON_DATABASE, "the database cannot be read just now").Because(err)
}
