package quota

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// ledgerPatience is how long the ledger may be silent before a decision fails.
const ledgerPatience = 2 * time.Second

// KeepLedger gives the service a bus to keep what durable quotas have spent on.
// Without it nothing that they count is admitted. Call it before anything else. A
// nil log discards. The error is that of an instrument that cannot be made.
func (s *Service) KeepLedger(b *bus.Bus, maxKeys, maxBookings int, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s.bus = b
	s.book = ledger.New(ledger.Options{
		Log: b.Ledger(), Store: b, MaxBalances: maxKeys, MaxRecords: maxBookings, Patience: cmp.Or(s.patient, ledgerPatience),
		Leads: func() bool { _, elsewhere := s.ledgerKeeper(); return !elsewhere }, Needed: func() bool { return len(s.plan.Load().quotas) > 0 },
		Now: s.wall, Logger: log,
	})
	return s.book.Observe(s.meter)
}

// LedgerReady reports whether the ledger of durable quotas answers; nil if there are
// no such quotas.
func (s *Service) LedgerReady(ctx context.Context) error {
	if s.book == nil {
		return nil
	}
	return s.book.Ready(ctx)
}

// wall is the time of day.
func (s *Service) wall() time.Time {
	if s.clock != nil {
		return s.clock()
	}
	return time.Now()
}

// quotaAsks makes an ask for each quota that matches and counts the unit; of any
// unit if it is empty. The numbers tell which quotas these are.
func (s *Service) quotaAsks(sub *subject, unit string, cost uint64) (asks []ledger.Ask, numbers []uint32, err error) {
	for _, c := range sub.plan.index.at(sub.attrs["action"], sub.attrs["tool"]) {
		if len(c.terms.quotas) == 0 || !sub.meets(c.when) {
			continue
		}
		t := &c.terms
		for i := range c.overrides {
			if sub.meets(c.overrides[i].when) {
				t = &c.overrides[i].terms
				break
			}
		}
		for _, n := range t.quotas {
			q := &sub.plan.quotas[n]
			if unit != "" && q.unit != unit {
				continue
			}
			a, err := s.quotaAsk(sub, c.rule, q, cost)
			if err != nil && q.shadow {
				continue // it must not refuse
			}
			if err != nil {
				return nil, nil, err
			}
			asks, numbers = append(asks, a), append(numbers, n)
		}
	}
	return asks, numbers, nil
}

func (s *Service) quotaAsk(sub *subject, r *rule, q *quota, cost uint64) (ledger.Ask, error) {
	var buf [256]byte
	text := buf[:0]
	fields := sub.plan.keys[r.key]
	words := make([]string, 0, 2*len(fields))
	for _, f := range fields {
		value := sub.value(f.attribute)
		var err error
		if text, err = f.Append(text, value); err != nil {
			return ledger.Ask{}, fault.New(codes.InvalidArgument, quotav1.Reason_REASON_ATTRIBUTE, "attribute %q is %v", f.Attribute, err)
		}
		words = append(words, f.Attribute, f.Text(value))
	}
	if r.costOne && q.unit == unitCalls {
		cost = 1
	}
	p := q.period(s.wall())
	return ledger.Ask{
		Limit: q.id, Key: digest(text), Attributes: words, Start: p.start, End: p.end,
		Most: q.amount, Cost: cost, Shadow: q.shadow, FreeExpiry: q.free,
	}, nil
}

// digest names a key, alike on every node and for ever: what was spent must be
// found again.
func digest(text []byte) ledger.ID {
	sum := sha256.Sum256(text)
	return ledger.ID{Hi: binary.LittleEndian.Uint64(sum[:]), Lo: binary.LittleEndian.Uint64(sum[8:])}
}

// bookingID names what a request books. With an idempotency key it is the same for
// the same request, else it is a new one.
func bookingID(what, key string, sub *quotav1.Subject, numbers ...uint64) ledger.ID {
	if key == "" {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		return ledger.ID{Hi: binary.LittleEndian.Uint64(b[:]), Lo: binary.LittleEndian.Uint64(b[8:])}
	}
	text := appendText(appendText(nil, what), key)
	for _, n := range numbers {
		text = binary.AppendUvarint(text, n)
	}
	attrs := sub.GetAttributes()
	names := make([]string, 0, len(attrs))
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		text = appendText(appendText(text, name), attrs[name])
	}
	return digest(text)
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// rememberedFor is how long a check is remembered by its id: for as long as this
// service itself may try again, with an idempotency key for the minute in which the
// caller may, and longer where another node's clock may say when that is over.
func (s *Service) rememberedFor(req *quotav1.CheckRequest) time.Duration {
	life := 5 * ledgerPatience
	if req.GetIdempotencyKey() != "" {
		life += replayFor
	}
	if s.cluster != nil {
		life += bus.ClockSkew
	}
	return life
}

// decideDurably decides a check, and counts the decision.
func (s *Service) decideDurably(ctx context.Context, p *plan, req *quotav1.CheckRequest, asks []limiter.Ask, probe bool) (*quotav1.CheckResponse, error) {
	asks = slices.Clone(asks) // those of the caller stay on its stack
	res, rule, err := s.judge(ctx, p, req, asks, probe)
	if err != nil {
		return nil, err
	}
	s.metrics.checked(p, rule)
	if res.GetDegraded() {
		s.metrics.spared(ctx, p, asks)
	}
	if res.GetAllowed() && !probe {
		s.metrics.shadowed(ctx, p, p.rates, asks)
	}
	return res, nil
}

// judge decides about rates and quotas, all or nothing, and tells the number of
// the rule that refused. Quotas are looked at first, rates taken then, and quotas
// charged last: what is in the ledger is never taken back.
//
// When a quota refuses after all, because others were faster, a node that counts
// alone gives back what it took of the rates. Members leave it, but for rates in fast
// mode: to a rate it is one more call.
func (s *Service) judge(ctx context.Context, p *plan, req *quotav1.CheckRequest, asks []limiter.Ask, probe bool) (*quotav1.CheckResponse, int, error) {
	sub := s.subjectOf(p, req.GetSubject())
	cost, _ := costOf(req.Cost)
	counted, numbers, err := s.quotaAsks(&sub, unitCalls, uint64(cost))
	if err != nil {
		return nil, 0, err
	}
	units, short, err := s.foreseeUnits(ctx, &sub, req.GetEstimates())
	if err != nil {
		return nil, 0, err
	}
	probe = probe || short != nil
	if len(counted) == 0 {
		ok, err := s.spendAnywhere(ctx, asks, probe)
		if err != nil {
			return nil, 0, err
		}
		res, rule := s.joint(sub.plan, ok, asks, short)
		return reserving(res, units), rule, nil
	}
	q := &quotav1.LedgerCheck{Check: withoutEstimates(req), Peek: true}
	quotas, err := s.foresee(ctx, sub.plan, counted, numbers, q, probe)
	if err != nil {
		return nil, 0, err
	}
	probe = probe || quotas != nil && !quotas.GetAllowed()
	ok, err := s.spendAnywhere(ctx, asks, probe)
	switch {
	case err != nil:
		return nil, 0, err
	case ok && !probe:
		id := bookingID("check", req.GetIdempotencyKey(), req.GetSubject(), uint64(cost))
		q.Peek, q.IdHi, q.IdLo = false, id.Hi, id.Lo
		quotas, err = s.checkLedger(ctx, sub.plan, counted, q)
		if err != nil && allShadow(counted) {
			break
		}
		if err != nil || !quotas.GetAllowed() {
			s.giveBack(asks)
		}
		if err != nil {
			return nil, 0, err
		}
	case quotas == nil && s.book != nil: // a rate refused
		if good, known, _ := s.book.Hint(counted); known {
			quotas = s.quotaResponse(sub.plan, good, counted, numbers)
		}
	}
	res, rule := s.joint(sub.plan, ok, asks, quotas, short)
	return reserving(res, units), rule, nil
}

// foresee tells what quotas say if that is to be known before anything is taken:
// for a probe, and when they seem to refuse. A repetition of what was charged may
// pass all the same, so it is left for later.
func (s *Service) foresee(ctx context.Context, p *plan, asks []ledger.Ask, numbers []uint32, q *quotav1.LedgerCheck, probe bool) (*quotav1.CheckResponse, error) {
	var good, known bool
	var age time.Duration
	if s.book != nil {
		good, known, age = s.book.Hint(asks)
	}
	recent := ledger.Staleness
	if _, elsewhere := s.ledgerKeeper(); elsewhere && !good {
		recent = refusedFor // or a caller over his limit would cost a message each time
	}
	switch {
	case !probe && (!known && s.book != nil || good || q.GetCheck().GetIdempotencyKey() != ""):
		return nil, nil
	case known && age <= recent:
		return s.quotaResponse(p, good, asks, numbers), nil
	}
	quotas, err := s.checkLedger(ctx, p, asks, q)
	if err != nil && allShadow(asks) { // such must not refuse
		return nil, nil
	}
	return quotas, err
}

// refusedFor is how old what a member knows may be for a refusal, as it is for
// rates. Members that do not write the ledger read on every second.
const refusedFor = 1500 * time.Millisecond

// allShadow reports whether no quota may refuse, whatever happens.
func allShadow(asks []ledger.Ask) bool {
	return !slices.ContainsFunc(asks, func(a ledger.Ask) bool { return !a.Shadow })
}

// giveBack undoes a spend from rates, as far as that is possible.
func (s *Service) giveBack(asks []limiter.Ask) {
	if s.cluster != nil {
		s.giveBackFast(asks)
		return
	}
	if len(asks) == 0 {
		return
	}
	s.limiter.Undo(s.now(), asks)
	s.limiter.Peek(s.now(), asks)
}

// spendAnywhere is spend, alone or together.
func (s *Service) spendAnywhere(ctx context.Context, asks []limiter.Ask, probe bool) (bool, error) {
	switch {
	case len(asks) == 0:
		return true, nil
	case s.cluster != nil:
		return s.spendTogether(ctx, asks, probe)
	}
	return s.spend(asks, probe)
}

// joint makes one answer of what rates and quotas say. Where there is nil, what some
// quotas say is unknown.
func (s *Service) joint(p *plan, ok bool, asks []limiter.Ask, all ...*quotav1.CheckResponse) (*quotav1.CheckResponse, int) {
	res, rule := s.answer(p, ok, p.rates, asks)
	for _, quotas := range all {
		res.Limits = append(res.GetLimits(), quotas.GetLimits()...)
		if quotas == nil || quotas.GetAllowed() {
			continue
		}
		longer := quotas.GetRetryAfter() == nil || res.GetRetryAfter() != nil &&
			quotas.GetRetryAfter().AsDuration() > res.GetRetryAfter().AsDuration()
		if res.GetAllowed() || longer {
			res.Rule, res.Refusal, res.RetryAfter = quotas.GetRule(), quotas.GetRefusal(), quotas.GetRetryAfter()
			rule = slices.Index(p.ids, res.GetRule())
		}
		res.Allowed = false
	}
	res.Limits = p.inOrder(res.GetLimits())
	return res, rule
}

// inOrder sorts states as the configuration has their limits.
func (p *plan) inOrder(states []*quotav1.LimitState) []*quotav1.LimitState {
	slices.SortStableFunc(states, func(a, b *quotav1.LimitState) int { return p.orders[a.GetName()] - p.orders[b.GetName()] })
	return states
}

// usageOfQuotas adds the states of the quotas of a subject. Those are left out of
// which nothing is known.
func (s *Service) usageOfQuotas(ctx context.Context, sub *subject, states []*quotav1.LimitState) ([]*quotav1.LimitState, error) {
	if s.book == nil || len(sub.plan.quotas) == 0 {
		return states, nil
	}
	asks, numbers, err := s.quotaAsks(sub, "", 1)
	if err != nil || len(asks) == 0 {
		return states, err
	}
	ok, err := s.book.Peek(ctx, asks)
	if err != nil {
		return states, nil // what is known of rates is told all the same
	}
	return sub.plan.inOrder(append(states, s.quotaResponse(sub.plan, ok, asks, numbers).GetLimits()...)), nil
}

// quotaResponse tells what quotas have decided.
func (s *Service) quotaResponse(p *plan, ok bool, asks []ledger.Ask, numbers []uint32) *quotav1.CheckResponse {
	res := &quotav1.CheckResponse{Allowed: ok}
	now := s.wall()
	worst := time.Duration(-1)
	for i := range asks {
		a, q := &asks[i], &p.quotas[numbers[i]]
		state := &quotav1.LimitState{
			Name: q.name, Limit: q.amount, Window: durationpb.New(time.Duration(a.End-a.Start) * time.Second),
			Remaining: a.Left(), Shadow: q.shadow, Exceeded: a.Exceeded, Kind: quotav1.RefusalKind_REFUSAL_KIND_QUOTA,
			Unit: q.unit, Reserved: a.Reserved, ResetAfter: &durationpb.Duration{},
		}
		wait := max(time.Unix(a.End, 0).Sub(now), 0)
		if a.Spent+a.Reserved > 0 {
			state.ResetAfter = durationpb.New(wait)
		}
		res.Limits = append(res.Limits, state)
		if ok || q.shadow || !a.Exceeded {
			continue
		}
		if a.Cost > a.Most {
			wait = limiter.Never
		}
		if wait > worst {
			worst = wait
			res.Rule, res.Refusal = q.name, quotav1.RefusalKind_REFUSAL_KIND_QUOTA
		}
	}
	if worst >= 0 && worst != limiter.Never {
		res.RetryAfter = durationpb.New(worst)
	}
	return res
}

// ledgerFailure makes a fault of why nothing could be booked. All fail closed.
func ledgerFailure(err error) error {
	switch {
	case errors.Is(err, ledger.ErrUnavailable):
		return fault.New(codes.Unavailable, quotav1.Reason_REASON_LEDGER,
			"the ledger of durable quotas does not answer").After(time.Second).Because(err)
	case errors.Is(err, ledger.ErrFull):
		return fault.New(codes.ResourceExhausted, quotav1.Reason_REASON_TABLE_FULL,
			"memory for quotas is used up; new keys and reservations are refused").After(time.Second)
	case errors.Is(err, ledger.ErrUnknown):
		return fault.New(codes.NotFound, quotav1.Reason_REASON_RESERVATION_UNKNOWN,
			"there is no such reservation: it was never made, or settled more than a day ago")
	}
	return err
}
