package quota

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
)

// Reserve implements [quotav1.QuotaServiceServer]. A reservation lives no longer
// than each of its rules says, whatever the request does.
func (s *Service) Reserve(ctx context.Context, req *quotav1.ReserveRequest) (*quotav1.ReserveResponse, error) {
	sub := s.subject(req.GetSubject())
	asks, _, err := s.quotaAsks(&sub, unitOfReserve(req), req.GetEstimate())
	if err != nil {
		return nil, err
	}
	if len(asks) == 0 { // nobody counts it
		return &quotav1.ReserveResponse{Check: &quotav1.CheckResponse{Allowed: true}}, nil
	}
	reply, err := s.booked(ctx, sub.plan, &quotav1.LedgerRequest{
		Request: &quotav1.LedgerRequest_Reserve{Reserve: req}, Limits: limitsOf(asks),
	})
	if err != nil && allShadow(asks) { // such must not refuse
		return &quotav1.ReserveResponse{Check: &quotav1.CheckResponse{Allowed: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	return reply.GetReserve(), nil
}

// Commit implements [quotav1.QuotaServiceServer].
func (s *Service) Commit(ctx context.Context, req *quotav1.CommitRequest) (*quotav1.CommitResponse, error) {
	reply, err := s.booked(ctx, nil, &quotav1.LedgerRequest{Request: &quotav1.LedgerRequest_Commit{Commit: req}})
	if err != nil {
		return nil, err
	}
	return reply.GetCommit(), nil
}

// Refund implements [quotav1.QuotaServiceServer].
func (s *Service) Refund(ctx context.Context, req *quotav1.RefundRequest) (*quotav1.RefundResponse, error) {
	reply, err := s.booked(ctx, nil, &quotav1.LedgerRequest{Request: &quotav1.LedgerRequest_Refund{Refund: req}})
	if err != nil {
		return nil, err
	}
	return reply.GetRefund(), nil
}

func unitOfReserve(req *quotav1.ReserveRequest) string {
	if req.GetUnit() == "" {
		return unitCalls
	}
	return req.GetUnit()
}

func (s *Service) bookReserve(ctx context.Context, p *plan, req *quotav1.ReserveRequest, limits []uint64) (*quotav1.ReserveResponse, error) {
	sub := subject{plan: p, hash: &s.hash, attrs: req.GetSubject().GetAttributes()}
	unit := unitOfReserve(req)
	asks, numbers, err := s.quotaAsks(&sub, unit, req.GetEstimate())
	if err != nil {
		return nil, err
	}
	if !slices.Equal(limitsOf(asks), limits) {
		return nil, errOtherRules
	}
	ttl := time.Duration(0)
	if req.GetTtl() != nil {
		ttl = req.GetTtl().AsDuration()
	}
	for _, n := range numbers {
		if most := sub.plan.quotas[n].ttl; ttl <= 0 || ttl > most {
			ttl = most
		}
	}
	id := bookingID("reserve "+unit, req.GetIdempotencyKey(), req.GetSubject(), req.GetEstimate())
	ok, expires, err := s.book.Reserve(ctx, id, ttl, asks)
	if err != nil {
		return nil, err
	}
	res := &quotav1.ReserveResponse{Check: s.quotaResponse(sub.plan, ok, asks, numbers)}
	if ok {
		res.ReservationId, res.Expires = reservationText(id), timestamppb.New(expires)
	}
	return res, nil
}

func (s *Service) bookCommit(ctx context.Context, req *quotav1.CommitRequest) (*quotav1.CommitResponse, error) {
	id, err := reservationID(req.GetReservationId())
	if err != nil {
		return nil, err
	}
	charged, overdraft, err := s.book.Commit(ctx, id, req.GetActual(), s.keptFor(req.GetRemember()))
	if err != nil {
		return nil, err
	}
	return &quotav1.CommitResponse{Charged: charged, Overdraft: overdraft}, nil
}

func (s *Service) bookRefund(ctx context.Context, req *quotav1.RefundRequest) (*quotav1.RefundResponse, error) {
	id, err := reservationID(req.GetReservationId())
	if err != nil {
		return nil, err
	}
	refunded, err := s.book.Refund(ctx, id, s.keptFor(req.GetRemember()))
	if err != nil {
		return nil, err
	}
	return &quotav1.RefundResponse{Refunded: refunded}, nil
}

// keptFor is how long an outcome is remembered; 0 for as long as is usual. Where
// another node's clock may say when that is over it is longer.
func (s *Service) keptFor(asked *durationpb.Duration) time.Duration {
	if asked == nil {
		return 0
	}
	keep := asked.AsDuration()
	if s.cluster != nil {
		keep += bus.ClockSkew
	}
	return keep
}

const reservationPrefix = "r_"

func reservationText(id ledger.ID) string {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, id.Hi), id.Lo)
	return reservationPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// reservationID reads one. What is none was never made.
func reservationID(text string) (ledger.ID, error) {
	text, ok := strings.CutPrefix(text, reservationPrefix)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(b) != 16 {
		return ledger.ID{}, ledger.ErrUnknown
	}
	return ledger.ID{Hi: binary.BigEndian.Uint64(b), Lo: binary.BigEndian.Uint64(b[8:])}, nil
}
