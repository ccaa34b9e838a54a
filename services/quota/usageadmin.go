package quota

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
)

// admin answers operators.
type admin struct {
	quotav1.UnimplementedQuotaAdminServiceServer
	s *Service
}

// pageOfUsage is how many rows a page has if the request does not say.
const pageOfUsage = 100

// ListUsage implements [quotav1.QuotaAdminServiceServer]. Rows are in the order of
// the rules, and then by what was spent. A page continues where the one before
// ended by number, so what is spent in between may move a row over the edge.
func (a admin) ListUsage(ctx context.Context, req *quotav1.ListUsageRequest) (*quotav1.ListUsageResponse, error) {
	at, skip := a.s.wall(), 0
	if req.GetTime() != nil {
		at = req.GetTime().AsTime()
	}
	if token := req.GetPageToken(); token != "" {
		var second int64
		if n, err := fmt.Sscanf(token, "%d.%d", &second, &skip); err != nil || n != 2 || skip < 0 {
			return nil, fault.New(codes.InvalidArgument, faultv1.Reason_REASON_INVALID, "page_token: not one of this service")
		}
		at = time.Unix(second, 0)
	}
	rows, err := a.s.usageRows(ctx, req.GetRule(), at)
	if err != nil {
		return nil, err
	}
	res := &quotav1.ListUsageResponse{Rows: rows[min(skip, len(rows)):]}
	if size := cmp.Or(int(req.GetPageSize()), pageOfUsage); len(res.GetRows()) > size {
		res.Rows = res.Rows[:size]
		res.NextPageToken = fmt.Sprintf("%d.%d", at.Unix(), skip+size)
	}
	return res, nil
}

// usageRows are those of one rule, or of all.
func (s *Service) usageRows(ctx context.Context, rule string, at time.Time) ([]*quotav1.UsageRow, error) {
	var rows []*quotav1.UsageRow
	p, found := s.plan.Load(), false
	listed := make(map[uint64]bool) // overrides have the count of their rule
	for i := range p.quotas {
		q := &p.quotas[i]
		if rule != "" && q.name != rule || listed[q.id] {
			continue
		}
		found, listed[q.id] = true, true
		if s.book == nil {
			return nil, ledgerFailure(ledger.ErrUnavailable)
		}
		all, err := s.book.Balances(ctx, q.id, at)
		if err != nil {
			return nil, ledgerFailure(err)
		}
		slices.SortFunc(all, func(a, b ledger.Balance) int {
			return cmp.Or(cmp.Compare(b.Spent, a.Spent), slices.Compare(a.Attributes, b.Attributes))
		})
		for _, b := range all {
			rows = append(rows, usageRow(q, b))
		}
	}
	if rule != "" && !found {
		return nil, fault.New(codes.NotFound, faultv1.Reason_REASON_INVALID, "rule: there is no rule %q with a quota; there are: %s",
			rule, cmp.Or(strings.Join(p.quotaNames(), ", "), "none"))
	}
	return rows, nil
}

func (p *plan) quotaNames() (names []string) {
	for i := range p.quotas {
		names = append(names, p.quotas[i].name)
	}
	return slices.Compact(names)
}

func usageRow(q *quota, b ledger.Balance) *quotav1.UsageRow {
	row := &quotav1.UsageRow{
		Rule: q.name, Unit: q.unit, Key: make(map[string]string),
		PeriodStart: timestamppb.New(time.Unix(b.Start, 0)), PeriodEnd: timestamppb.New(time.Unix(b.End, 0)),
		Limit: b.Most, Spent: b.Spent, Reserved: b.Reserved, Overdraft: b.Spent - min(b.Spent, b.Most),
	}
	for pair := range slices.Chunk(b.Attributes, 2) {
		row.Key[pair[0]] = pair[1]
	}
	return row
}
