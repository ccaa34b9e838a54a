package logs

import (
	"context"

	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/line"
)

// SummarizeLogs implements [logsv1.LogsServiceServer].
func (s *Service) SummarizeLogs(ctx context.Context, req *logsv1.SummarizeLogsRequest) (*logsv1.SummarizeLogsResponse, error) {
	span, err := parseSince(req.GetSince())
	if err != nil {
		return nil, err
	}
	level, _ := line.ParseLevel(req.GetLevel()) // absent is the lowest
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return s.summarize(ctx, req.GetSource(), span, level)
}
