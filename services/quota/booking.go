package quota

import (
	"context"
	"errors"
	"slices"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// In a cluster one node writes the ledger, so that bookings travel together and
// appends do not get in each other's way. The others ask it. Where it does not
// answer, a node books for itself: that is always right, and the same booking twice
// is one.

const (
	// bookAtOnce is how many bookings of other nodes are under way at a time.
	bookAtOnce = 4096
	// keeperPatience is how long another node may take.
	keeperPatience = ledgerPatience / 4
)

// ledgerKeeper is the node that writes the ledger, if it is another.
func (s *Service) ledgerKeeper() (id string, elsewhere bool) {
	if s.cluster == nil {
		return "", false
	}
	id, mine := s.cluster.Owner(limiter.Key{}) // any key is as good as any other
	return id, !mine && id != ""
}

// seat takes bookings of other nodes, as the member id, until stop is called.
func (s *Service) seat(id string) (stop func(), err error) {
	if s.book == nil {
		return func() {}, nil
	}
	return bus.AnswerAtOnce(s.bus, bus.SubjectQuotaBookings+id, bookAtOnce, s.answerBooking)
}

// answerBooking books for another node.
func (s *Service) answerBooking(ctx context.Context, q *quotav1.LedgerRequest) *quotav1.LedgerReply {
	reply, err := s.bookHere(ctx, s.plan.Load(), q)
	switch {
	case err == nil:
		return reply
	case errors.Is(err, ledger.ErrUnknown):
		return &quotav1.LedgerReply{Reply: &quotav1.LedgerReply_Unknown{Unknown: true}}
	case errors.Is(err, ledger.ErrFull):
		return &quotav1.LedgerReply{Reply: &quotav1.LedgerReply_Full{Full: true}}
	}
	return &quotav1.LedgerReply{}
}

// booked books where the ledger is written, or here by the rules of p.
func (s *Service) booked(ctx context.Context, p *plan, q *quotav1.LedgerRequest) (*quotav1.LedgerReply, error) {
	if s.book == nil {
		return nil, ledgerFailure(ledger.ErrUnavailable)
	}
	if id, elsewhere := s.ledgerKeeper(); elsewhere {
		asking, cancel := context.WithTimeout(ctx, keeperPatience)
		reply, err := bus.Ask[*quotav1.LedgerRequest, *quotav1.LedgerReply](asking, s.bus, bus.SubjectQuotaBookings+id, q)
		cancel()
		switch {
		case err != nil || reply.GetReply() == nil: // here, then
		case reply.GetUnknown():
			return nil, ledgerFailure(ledger.ErrUnknown)
		case reply.GetFull():
			return nil, ledgerFailure(ledger.ErrFull)
		default:
			return reply, nil
		}
	}
	reply, err := s.bookHere(ctx, p, q)
	return reply, ledgerFailure(err)
}

// bookHere books with this node's book, by the rules of p.
func (s *Service) bookHere(ctx context.Context, p *plan, q *quotav1.LedgerRequest) (*quotav1.LedgerReply, error) {
	limits := q.GetLimits()
	switch q := q.GetRequest().(type) {
	case *quotav1.LedgerRequest_Check:
		res, err := s.bookCheck(ctx, p, q.Check, limits)
		return &quotav1.LedgerReply{Reply: &quotav1.LedgerReply_Check{Check: res}}, err
	case *quotav1.LedgerRequest_Reserve:
		res, err := s.bookReserve(ctx, p, q.Reserve, limits)
		return &quotav1.LedgerReply{Reply: &quotav1.LedgerReply_Reserve{Reserve: res}}, err
	case *quotav1.LedgerRequest_Commit:
		res, err := s.bookCommit(ctx, q.Commit)
		return &quotav1.LedgerReply{Reply: &quotav1.LedgerReply_Commit{Commit: res}}, err
	case *quotav1.LedgerRequest_Refund:
		res, err := s.bookRefund(ctx, q.Refund)
		return &quotav1.LedgerReply{Reply: &quotav1.LedgerReply_Refund{Refund: res}}, err
	}
	return nil, ledger.ErrUnavailable
}

// limitsOf are the names of limits.
func limitsOf(asks []ledger.Ask) []uint64 {
	names := make([]uint64, len(asks))
	for i := range asks {
		names[i] = asks[i].Limit
	}
	return names
}

// errOtherRules says that another node has other rules just now. It decides
// itself, then.
var errOtherRules = errors.New("other rules count this here")

// checkLedger decides about the quotas of a check that asks are for.
func (s *Service) checkLedger(ctx context.Context, p *plan, asks []ledger.Ask, q *quotav1.LedgerCheck) (*quotav1.CheckResponse, error) {
	reply, err := s.booked(ctx, p, &quotav1.LedgerRequest{Request: &quotav1.LedgerRequest_Check{Check: q}, Limits: limitsOf(asks)})
	if err != nil {
		return nil, err
	}
	return reply.GetCheck(), nil
}

func (s *Service) bookCheck(ctx context.Context, p *plan, q *quotav1.LedgerCheck, limits []uint64) (*quotav1.CheckResponse, error) {
	req := q.GetCheck()
	cost, _ := costOf(req.Cost)
	sub := subject{plan: p, hash: &s.hash, attrs: req.GetSubject().GetAttributes()}
	asks, numbers, err := s.quotaAsks(&sub, unitCalls, uint64(cost))
	if err != nil {
		return nil, err
	}
	if !slices.Equal(limitsOf(asks), limits) {
		return nil, errOtherRules
	}
	id := ledger.ID{Hi: q.GetIdHi(), Lo: q.GetIdLo()}
	ok := false
	switch {
	case q.GetPeek():
		ok, err = s.book.Peek(ctx, asks)
	default:
		ok, err = s.book.Spend(ctx, id, s.rememberedFor(req), asks)
	}
	if err != nil {
		return nil, err
	}
	return s.quotaResponse(sub.plan, ok, asks, numbers), nil
}
