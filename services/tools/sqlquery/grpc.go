package sqlquery

import (
	"context"

	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/table"
)

// RunSqlQuery implements [sqlqueryv1.SqlQueryServiceServer].
func (s *Service) RunSqlQuery(ctx context.Context, req *sqlqueryv1.RunSqlQueryRequest) (*sqlqueryv1.RunSqlQueryResponse, error) {
	rows := 0 // of whatever ends without a result
	defer func() { toolkit.Used(ctx, "rows", uint64(rows)) }()
	args, err := table.Args(req.GetParameters())
	if err != nil {
		return nil, err
	}
	t, err := s.query(ctx, toolkit.CallerOf(ctx), req.GetQuery(), args)
	if err != nil {
		return nil, err
	}
	resp := t.Response()
	rows = len(resp.GetRows())
	return resp, nil
}
