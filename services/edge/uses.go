package edge

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// A tool may name units that its calls use, such as rows. Where a quota counts one
// of these for the caller, its estimate is reserved before the call, and settled
// after it:
//
//	check: units?     allowed by all who have a say    called: COMMIT of what it reports, else of the estimate
//	(nothing) ──────▶ RESERVE ──────────────────────▶ held ──▶ (nothing)
//	                     │ no: refused, others REFUND    └─ not called: REFUND
//
// A reservation has the id of the decision, so that however often it is asked for
// there is one. What an edge leaves behind that is killed meanwhile is settled by
// the rule's on_expire when the reservation ends.
type booking struct {
	held   []heldUnit
	called bool            // the tool was called, or may have been
	spent  []*auditv1.Used // once it is settled: what was charged
}

// heldUnit is one reservation.
type heldUnit struct {
	id       string
	unit     string
	estimate uint64
	reported uint64 // in all rounds so far
	unsure   bool   // of a round it is not known
}

const (
	// bookingSlack is how much longer a reservation lives than a call may take.
	bookingSlack = time.Minute
	// settledFor is how long quota has to remember what has become of it: longer than
	// anything is tried again, see maxTries.
	settledFor = 10 * time.Minute
)

// estimates is what a check is told of a tool's uses.
func estimates(uses []*toolv1.Use) []*quotav1.Estimate {
	var all []*quotav1.Estimate
	for _, u := range uses {
		all = append(all, &quotav1.Estimate{Unit: u.GetUnit(), Amount: u.GetEstimate()})
	}
	return all
}

// reserve sets aside what the call is expected to use, of the units that the check
// has said a quota counts. It fails closed. Whoever calls it calls settleUses too,
// whatever becomes of the request.
func (x *exchange) reserve(uses []*toolv1.Use) *refusal {
	for _, u := range uses {
		if !slices.Contains(x.units, u.GetUnit()) {
			continue
		}
		req := &quotav1.ReserveRequest{
			Subject: &quotav1.Subject{Attributes: x.attributes()}, Unit: u.GetUnit(), Estimate: u.GetEstimate(),
			Ttl: durationpb.New(x.s.cfg.CallTimeout + bookingSlack), IdempotencyKey: x.decision,
		}
		ctx, cancel := x.peerContext()
		resp, err := x.s.quota.Reserve(ctx, req)
		cancel()
		if err != nil {
			x.s.unsettled.add(unsettledUse{reserve: req}) // it may be there all the same
			return x.peerFailed("quota", err)
		}
		x.limits = append(x.limits, resp.GetCheck().GetLimits()...)
		if !resp.GetCheck().GetAllowed() {
			return x.overQuota(resp.GetCheck())
		}
		if id := resp.GetReservationId(); id != "" { // else rules have changed meanwhile
			x.booking.held = append(x.booking.held, heldUnit{id: id, unit: u.GetUnit(), estimate: u.GetEstimate()})
		}
	}
	return nil
}

// noteUsage takes what the executor says of one round; nil if it says nothing.
func (x *exchange) noteUsage(usage *executorv1.Usage) {
	b := &x.booking
	if usage.GetNone() || len(b.held) == 0 {
		return
	}
	b.called = true
	for i := range b.held {
		h := &b.held[i]
		at := slices.IndexFunc(usage.GetUsed(), func(u *auditv1.Used) bool { return u.GetUnit() == h.unit })
		switch {
		case at < 0 || usage.GetUsed()[at].GetEstimated():
			h.unsure = true
		default:
			h.reported += usage.GetUsed()[at].GetAmount()
		}
	}
}

// usageAfter is what is known of the usage of a call that ended with an error. sent
// says that the executor may have got it.
func usageAfter(err error, sent bool) *executorv1.Usage {
	if !sent || fault.Is(err, executorv1.Reason_REASON_UNKNOWN) || fault.Is(err, executorv1.Reason_REASON_GRANT) ||
		fault.Is(err, executorv1.Reason_REASON_AUDIT_UNAVAILABLE) || fault.Is(err, faultv1.Reason_REASON_NOT_READY) {
		return &executorv1.Usage{None: true}
	}
	return nil
}

// maySent reports whether a call that could not be begun may have left: gRPC says
// EOF where the other side has ended it.
func maySent(err error) bool { return errors.Is(err, io.EOF) }

// amount is what is charged, and whether that is an estimate: where it is not known
// of each round, at least the tool's.
func (h *heldUnit) amount() (n uint64, estimated bool) {
	const most = 1_000_000_000_000 // of the contract
	if h.unsure {
		return max(h.estimate, min(h.reported, most)), true
	}
	return min(h.reported, most), false
}

// settleUses charges what was used, or gives back what was set aside for a call that
// was not made. It is too late to refuse anything: what quota does not take now is
// tried again later.
func (x *exchange) settleUses() {
	b := &x.booking
	held := b.held
	b.held = nil
	for i := range held {
		h := &held[i]
		u := unsettledUse{refund: &quotav1.RefundRequest{ReservationId: h.id, Remember: durationpb.New(settledFor)}}
		if b.called {
			amount, estimated := h.amount()
			u = unsettledUse{commit: &quotav1.CommitRequest{ReservationId: h.id, Actual: amount, Remember: durationpb.New(settledFor)}}
			b.spent = append(b.spent, &auditv1.Used{Unit: h.unit, Amount: amount, Estimated: estimated})
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(x.ctx), x.s.cfg.PeerTimeout)
		if err := u.settle(ctx, x.s.quota); err != nil {
			x.s.log.WarnContext(x.ctx, "what a call has used cannot be settled just now", "tool", x.target,
				"decision", x.decision, "unit", h.unit, "err", err)
			x.s.unsettled.add(u)
		}
		cancel()
	}
}

// appendSpent tells what was charged, as members of a decision: {"rows":42}, and which
// of it is estimated.
func appendSpent(b []byte, spent []*auditv1.Used) []byte {
	for i, u := range spent {
		if i == 0 {
			b = append(b, `,"used":{`...)
		} else {
			b = append(b, ',')
		}
		b = strconv.AppendUint(append(appendText(b, u.GetUnit()), ':'), u.GetAmount(), 10)
	}
	if len(spent) > 0 {
		b = append(b, '}')
	}
	sep := `,"used_estimated":[`
	for _, u := range spent {
		if u.GetEstimated() {
			b, sep = appendText(append(b, sep...), u.GetUnit()), ","
		}
	}
	if sep == "," {
		b = append(b, ']')
	}
	return b
}
