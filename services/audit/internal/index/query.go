package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// maxPageBytes bounds the events of one answer together: an answer must fit in a
// gRPC message, however large its events are.
const maxPageBytes = 2 << 20

// Row is an event that was found.
type Row struct {
	Key
	// Position counts events in the order in which they arrived.
	Position int64
	// Sequence is that of the message in the stream that held the event.
	Sequence uint64
	// Raw is the event as it was in the stream.
	Raw []byte
}

// Page selects events in the order of time.
type Page struct {
	Filter *auditv1.Filter
	// After leaves out what comes before this key in the chosen order, and the
	// key itself. Nil leaves out nothing.
	After *Key
	// UpTo leaves out what arrived later than this position, if it is not 0.
	UpTo int64
	// OldestFirst is the order; otherwise the newest come first.
	OldestFirst bool
	// Limit is the largest number of rows.
	Limit int
}

// ByTime returns the rows of a page and whether more follow. It may return
// fewer than the limit and say that more follow.
func (x *Index) ByTime(ctx context.Context, p Page) (rows []Row, more bool, err error) {
	var c condition
	c.filter(p.Filter)
	order, before := "DESC", "<"
	if p.OldestFirst {
		order, before = "ASC", ">"
	}
	if p.After != nil {
		c.and("(time, id) "+before+" (?, ?)", p.After.Time, p.After.ID)
	}
	if p.UpTo > 0 {
		c.and("position <= ?", p.UpTo)
	}
	query := "SELECT " + rowColumns + fromByTime + c.String() + " ORDER BY time " + order + ", id " + order + " LIMIT ?"
	return x.rows(ctx, query, append(c.args, p.Limit+1), p.Limit)
}

// Since returns rows in the order in which they arrived, beginning after a
// position, at most so many. It also returns the position to go on from, which
// is beyond the last row if what follows it does not match.
func (x *Index) Since(ctx context.Context, f *auditv1.Filter, after int64, limit int) (rows []Row, next int64, more bool, err error) {
	// The end is read first: what arrives between the two queries belongs to
	// the next call.
	end, err := x.Position(ctx)
	if err != nil || end <= after {
		return nil, after, false, err
	}
	var c condition
	c.and("position > ?", after)
	c.and("position <= ?", end)
	c.filter(f)
	query := "SELECT " + rowColumns + fromByPosition + c.String() + " ORDER BY position LIMIT ?"
	rows, more, err = x.rows(ctx, query, append(c.args, limit+1), limit)
	if err != nil {
		return nil, after, false, err
	}
	if more {
		end = rows[len(rows)-1].Position
	}
	return rows, end, more, nil
}

// Position returns the position of the event that arrived last, 0 if there is
// none.
func (x *Index) Position(ctx context.Context) (position int64, err error) {
	if err := x.read.QueryRowContext(ctx, selectPosition).Scan(&position); err != nil {
		return 0, damaged(fmt.Errorf("read the audit index: %w", err))
	}
	return position, nil
}

// Event returns the event with this key as it was in the stream, nil if there is
// none.
func (x *Index) Event(ctx context.Context, k Key) (raw []byte, err error) {
	err = x.read.QueryRowContext(ctx, selectEvent, k.Time, k.ID).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, damaged(fmt.Errorf("read the audit index: %w", err))
	}
	return raw, nil
}

// rows runs a query that asks for one row more than the limit, which tells
// whether more follow.
func (x *Index) rows(ctx context.Context, query string, args []any, limit int) (found []Row, more bool, err error) {
	result, err := x.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, false, damaged(fmt.Errorf("query the audit index: %w", err))
	}
	defer func() { err = errors.Join(err, result.Close()) }()
	bytes := 0
	for result.Next() {
		if len(found) == limit || bytes >= maxPageBytes {
			return found, true, nil
		}
		var r Row
		var sequence int64
		if err := result.Scan(&r.Position, &r.Time, &r.ID, &sequence, &r.Raw); err != nil {
			return nil, false, damaged(fmt.Errorf("read the audit index: %w", err))
		}
		r.Sequence = uint64(sequence)
		bytes += len(r.Raw)
		found = append(found, r)
	}
	if err := result.Err(); err != nil {
		return nil, false, damaged(fmt.Errorf("query the audit index: %w", err))
	}
	return found, false, nil
}
