package audit

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/index"
)

const (
	defaultPage = 100
	// chunk is how many events a stream reads from the index at a time.
	chunk = 500
)

// Query implements [auditv1.AuditServiceServer].
func (s *Service) Query(ctx context.Context, req *auditv1.QueryRequest) (*auditv1.QueryResponse, error) {
	x, err := s.open()
	if err != nil {
		return nil, err
	}
	asked, err := question(req.GetFilter(), req.GetOldestFirst())
	if err != nil {
		return nil, fmt.Errorf("identify the filter: %w", err)
	}
	p := index.Page{Filter: req.GetFilter(), OldestFirst: req.GetOldestFirst(), Limit: int(req.GetPageSize())}
	if p.Limit == 0 {
		p.Limit = defaultPage
	}
	if token := req.GetPageToken(); token != "" {
		after, err := readCursor(asked, token)
		if err != nil {
			return nil, fault.New(codes.InvalidArgument, auditv1.ErrorReason_ERROR_REASON_CURSOR, "%v", err)
		}
		p.After = &after
	}
	// Before the query: an answer may have less lag than it says, never more.
	lag := s.lag()
	rows, more, err := x.ByTime(ctx, p)
	if err != nil {
		return nil, unavailable(err)
	}
	events, err := unpack(rows)
	if err != nil {
		return nil, err
	}
	resp := &auditv1.QueryResponse{Events: events, Lag: lag}
	if more {
		resp.NextPageToken = writeCursor(asked, rows[len(rows)-1].Key)
	}
	return resp, nil
}

// Tail implements [auditv1.AuditServiceServer]. It reads the index from where it
// is each time the index has advanced. So a client that is slow falls behind and
// loses nothing, and nothing is kept for it meanwhile.
func (s *Service) Tail(req *auditv1.TailRequest, out grpc.ServerStreamingServer[auditv1.TailResponse]) error {
	ctx := out.Context()
	x, err := s.open()
	if err != nil {
		return err
	}
	send := func(rows []index.Row) error {
		events, err := unpack(rows)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := out.Send(&auditv1.TailResponse{Event: e}); err != nil {
				return err
			}
		}
		return nil
	}

	position, err := x.Position(ctx)
	if err != nil {
		return unavailable(err)
	}
	// The backlog ends, and what is live begins, at this position.
	var backlog []index.Row
	p := index.Page{Filter: req.GetFilter(), UpTo: position}
	for more := position > 0; more && len(backlog) < int(req.GetBacklog()); {
		var rows []index.Row
		p.Limit = int(req.GetBacklog()) - len(backlog)
		if rows, more, err = x.ByTime(ctx, p); err != nil {
			return unavailable(err)
		}
		backlog = append(backlog, rows...)
		if len(rows) > 0 {
			p.After = &rows[len(rows)-1].Key
		}
	}
	slices.Reverse(backlog)
	if err := send(backlog); err != nil {
		return err
	}

	for {
		advanced := s.next() // before reading, so that nothing is missed
		for more := true; more; {
			var rows []index.Row
			if rows, position, more, err = x.Since(ctx, req.GetFilter(), position, chunk); err != nil {
				return unavailable(err)
			}
			if err := send(rows); err != nil {
				return err
			}
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped:
			return unavailable(fmt.Errorf("the service stops"))
		}
	}
}

// Export implements [auditv1.AuditServiceServer]. It ends with the event that
// was the last when it began.
func (s *Service) Export(req *auditv1.ExportRequest, out grpc.ServerStreamingServer[auditv1.ExportResponse]) error {
	ctx := out.Context()
	x, err := s.open()
	if err != nil {
		return err
	}
	position, err := x.Position(ctx)
	if err != nil {
		return unavailable(err)
	}
	p := index.Page{Filter: req.GetFilter(), UpTo: position, OldestFirst: true, Limit: chunk}
	for more := position > 0; more; {
		var rows []index.Row
		if rows, more, err = x.ByTime(ctx, p); err != nil {
			return unavailable(err)
		}
		if len(rows) == 0 {
			return nil
		}
		events, err := unpack(rows)
		if err != nil {
			return err
		}
		if err := out.Send(&auditv1.ExportResponse{Events: events}); err != nil {
			return err
		}
		p.After = &rows[len(rows)-1].Key
	}
	return nil
}

func unpack(rows []index.Row) ([]*auditv1.Event, error) {
	events := make([]*auditv1.Event, len(rows))
	for i, r := range rows {
		events[i] = &auditv1.Event{}
		if err := proto.Unmarshal(r.Raw, events[i]); err != nil {
			return nil, unavailable(fmt.Errorf("read event %s of the index: %w", r.ID, err))
		}
	}
	return events, nil
}
