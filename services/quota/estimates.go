package quota

import (
	"context"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
)

// foreseeUnits tells which units of estimates a quota counts, and what quotas say
// that would set none of it aside, as far as that is known without asking another
// node; nil if there are none. Whether there is room is decided by Reserve alone: this spares
// callers who are over a quota what else a check would take of them.
func (s *Service) foreseeUnits(ctx context.Context, sub *subject, estimates []*quotav1.Estimate) (units []string, short *quotav1.CheckResponse, err error) {
	for _, e := range estimates {
		asks, numbers, err := s.quotaAsks(sub, e.GetUnit(), e.GetAmount())
		if err != nil {
			return nil, nil, err
		}
		if len(asks) == 0 {
			continue
		}
		units = append(units, e.GetUnit())
		if short != nil || s.book == nil {
			continue
		}
		good, known, age := s.book.Hint(asks)
		if good || !known {
			continue
		}
		recent := ledger.Staleness
		_, elsewhere := s.ledgerKeeper()
		if elsewhere {
			recent = refusedFor
		}
		if age > recent {
			if elsewhere {
				continue
			}
			if good, err = s.book.Peek(ctx, asks); err != nil || good { // if it does not answer, Reserve says so
				continue
			}
		}
		short = s.quotaResponse(sub.plan, false, asks, numbers)
	}
	return units, short, nil
}

// reserving adds to an answer what the caller has to reserve if he is allowed to go
// on.
func reserving(res *quotav1.CheckResponse, units []string) *quotav1.CheckResponse {
	if res.GetAllowed() {
		res.Units = units
	}
	return res
}

// withoutEstimates is the check as the ledger needs it.
func withoutEstimates(req *quotav1.CheckRequest) *quotav1.CheckRequest {
	if len(req.GetEstimates()) == 0 {
		return req
	}
	return &quotav1.CheckRequest{Subject: req.GetSubject(), Cost: req.Cost, IdempotencyKey: req.GetIdempotencyKey()}
}
