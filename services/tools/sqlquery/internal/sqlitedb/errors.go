package sqlitedb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/statement"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/table"
)

// checkText does what the driver does not: it refuses values that no
// placeholder asks for, and names of placeholders, which it cannot bind. It
// also refuses a second statement, which the driver would run.
func checkText(query string, args int) error {
	text := statement.Scan(query)
	switch {
	case text.Several:
		return fault.New(codes.PermissionDenied, sqlqueryv1.Reason_REASON_REFUSED,
			"only one query at a time is allowed: something follows the semicolon")
	case text.Named != "":
		return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_PARAMETERS,
			"placeholder %q has a name: use ? placeholders", text.Named)
	case text.Placeholders != args:
		return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_PARAMETERS,
			"the query has %d placeholders and the request %d parameters", text.Placeholders, args)
	}
	return nil
}

// explain turns an error of the engine into a fault.
func (g *guard) explain(ctx context.Context, err error) error {
	var f *fault.Error
	var e *sqlite.Error
	switch {
	case g.refused != "":
		return fault.New(codes.PermissionDenied, sqlqueryv1.Reason_REASON_REFUSED,
			"only read queries on the listed tables are allowed: %s is refused", g.refused).Because(err)
	case errors.As(err, &f):
		return f
	case errors.Is(context.Cause(ctx), errSpill):
		return fault.New(codes.ResourceExhausted, sqlqueryv1.Reason_REASON_TOO_LARGE,
			"the query needs too much space to sort or group: make it read less")
	case ctx.Err() != nil:
		return timeout(ctx.Err())
	case !errors.As(err, &e):
		return database(err)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_RANGE, sqlite3.SQLITE_MISMATCH:
		return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_QUERY, "%s", plain(e)).Because(err)
	case sqlite3.SQLITE_TOOBIG:
		return table.TooLarge()
	case sqlite3.SQLITE_NOMEM:
		// The limit on the size of programs says this.
		return fault.New(codes.InvalidArgument, sqlqueryv1.Reason_REASON_QUERY, "the query is too complex").Because(err)
	case sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY:
		return fault.New(codes.PermissionDenied, sqlqueryv1.Reason_REASON_REFUSED,
			"only read queries on the listed tables are allowed").Because(err)
	}
	return database(err)
}

// timeout returns the fault of a query that took too long, but a cancellation
// as it is.
func timeout(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.New(codes.DeadlineExceeded, sqlqueryv1.Reason_REASON_TIMEOUT,
			"the query took too long and was stopped: make it read less, or less often")
	}
	return err
}

func database(err error) error {
	return fault.New(codes.Unavailable, sqlqueryv1.Reason_REASON_DATABASE, "the database cannot be read just now").Because(err)
}

// plain returns the engine's own message without what the driver puts around
// it. Messages of this kind are about the text of the query, not about files.
func plain(e *sqlite.Error) string {
	text, _ := strings.CutSuffix(e.Error(), fmt.Sprintf(" (%d)", e.Code()))
	return strings.TrimPrefix(text, "SQL logic error: ")
}
