package sqlquery_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

// Temporary files are measured on Linux only; elsewhere MaxSpill does nothing.
func TestTemporaryFilesAreBounded(t *testing.T) {
	d := newDatabase(t)
	cfg := sqlquery.DefaultConfig()
	cfg.MaxSpill = 1 << 20
	cfg.Timeout = time.Minute
	client := serve(t, cfg, d.dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := client.RunSqlQuery(ctx, &sqlqueryv1.RunSqlQueryRequest{
		Query: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n ORDER BY replace('xxxxxxxxxx', 'x', '0123456789'), i",
	})
	want{code: codes.ResourceExhausted, reason: sqlqueryv1.Reason_REASON_TOO_LARGE, text: "space"}.check(t, got, err)
	_, err = client.RunSqlQuery(ctx, &sqlqueryv1.RunSqlQueryRequest{Query: "SELECT 1"})
	want{}.check(t, nil, err)
}
