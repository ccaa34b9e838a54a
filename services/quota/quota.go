// Package quota decides whether a caller may spend now.
//
// A check carries attributes of the caller and a cost. The rules of the
// configuration that match say which limits apply and what each counts by; the
// check spends from all of these limits or from none. The package knows nothing
// of users and tools but these attributes: whoever may call it is believed.
//
// Counts live in memory. The way from a check to a decision has one narrow place,
// where rules and attributes have become a list of [limiter.Ask]: a limit's
// number, a 128-bit key and a cost. A node that counts alone gives the list to its
// limiter, and the counts start anew with it. A member of a cluster gives it to
// package cluster: the key picks the node that owns it, asks of other owners
// travel there, and the owner decides with the limiter that it uses for its own.
// The counts then live as long as one node does.
//
// Quotas of days and months are another matter: what they count is in a ledger
// that outlives the process, kept by package ledger.
package quota

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/fast"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Service answers quota questions. Its methods are safe for concurrent use.
type Service struct {
	quotav1.UnimplementedQuotaServiceServer

	plan    atomic.Pointer[plan] // a check reads it once
	rules   *ruleSource
	hash    hasher
	limiter *limiter.Limiter
	permits *limiter.Permits
	replays *replays
	metrics metrics
	start   time.Time     // origin of the limiter's time, by the monotonic clock
	origin  time.Duration // what the limiter's time was then
	cluster *cluster.Node // nil for a node that counts alone, as is fast
	fast    *fast.Node
	lines   lines
	bus     *bus.Bus // nil without a ledger, as is book
	book    *ledger.Book
	clock   func() time.Time // the time of day; nil for that of the machine
	patient time.Duration    // how long the ledger may be silent; ledgerPatience when zero
	meter   metric.Meter     // nil measures nothing

	streams    atomic.Int64  // that have leases
	lending    sync.RWMutex  // held while rules change, and for reading while leases are charged or given back
	otherRules signal        // the plan is another
	stopping   chan struct{} // closed when Run ends
}

// New returns a service for the rules of cfg that counts alone. A nil meter
// measures nothing and a nil log discards.
func New(cfg Config, meter metric.Meter, log *slog.Logger) (*Service, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	rules := newRuleSource(cfg, log)
	plan, err := rules.first()
	if err != nil {
		return nil, err
	}
	s := &Service{
		rules:   rules,
		hash:    newHasher(),
		limiter: limiter.New(plan.rateSpecs, cfg.MaxKeys),
		permits: limiter.NewPermits(plan.permitSpecs, cfg.MaxKeys),
		replays: newReplays(cfg.MaxReplays),
		start:   time.Now(),
		meter:   meter,

		stopping: make(chan struct{}),
	}
	s.plan.Store(plan)
	s.tellWall()
	if s.metrics, err = newMetrics(meter, s.limiter.Len, s.rules.wrong); err != nil {
		return nil, err
	}
	plan.refused = s.metrics.checks.of(plan.ids)
	return s, nil
}

// now is the time as limits count it.
func (s *Service) now() time.Duration { return s.origin + time.Since(s.start) }

// tellWall tells the limiter the time of the day.
func (s *Service) tellWall() { s.limiter.SetWall(time.Duration(time.Now().UnixNano()) - s.now()) }

// subject returns a reader of a subject's attributes.
func (s *Service) subject(sub *quotav1.Subject) subject { return s.subjectOf(s.plan.Load(), sub) }

func (s *Service) subjectOf(p *plan, sub *quotav1.Subject) subject {
	return subject{plan: p, hash: &s.hash, attrs: sub.GetAttributes()}
}

// spend decides about asks of a node that counts alone. A cost of zero takes
// nothing, and asks about one.
func (s *Service) spend(asks []limiter.Ask, probe bool) (bool, error) {
	if probe {
		return s.limiter.Peek(s.now(), asks), nil
	}
	ok, err := s.limiter.Take(s.now(), asks)
	return ok, failure(err)
}

// acquire takes a permit, and returns its id: empty if none was needed.
func (s *Service) acquire(ctx context.Context, asks []limiter.Ask, ttl time.Duration) (id string, ok bool, err error) {
	if len(asks) == 0 {
		return "", true, nil
	}
	if s.cluster != nil {
		id, ok, err = s.cluster.Acquire(ctx, ttl, asks)
		return id, ok, failure(err)
	}
	id = "p_" + rand.Text()
	ok, err = s.permits.Acquire(s.now(), ttl, id, asks)
	if !ok {
		id = ""
	}
	return id, ok, failure(err)
}

// failure makes a fault of why nothing could be decided. Both fail closed.
func failure(err error) error {
	switch {
	case errors.Is(err, limiter.ErrFull): // the limits of callers that are known hold
		return fault.New(codes.ResourceExhausted, quotav1.Reason_REASON_TABLE_FULL,
			"memory for counters is used up; new callers are refused").After(time.Second)
	case errors.Is(err, cluster.ErrUnreachable):
		return fault.New(codes.Unavailable, quotav1.Reason_REASON_PEERS_LOST,
			"no word from the quota node that owns the count").After(time.Second)
	case errors.Is(err, fast.ErrSilent):
		return fault.New(codes.Unavailable, quotav1.Reason_REASON_PEERS_LOST,
			"no word from quota nodes that count together").After(time.Second)
	}
	return err
}

// usage tells the state of all limits of a subject, in the order of the
// configuration.
func (s *Service) usage(ctx context.Context, sub *subject) ([]*quotav1.LimitState, error) {
	asks, err := sub.appendAsks(nil, rates, 1)
	if err != nil {
		return nil, err
	}
	held, err := sub.appendAsks(nil, permits, 1)
	if err != nil {
		return nil, err
	}
	if s.cluster == nil {
		s.limiter.Peek(s.now(), asks)
		s.permits.Peek(s.now(), held)
	} else if err := s.peekTogether(ctx, asks, held); err != nil {
		return nil, err
	}
	type ordered struct {
		order int
		state *quotav1.LimitState
	}
	var all []ordered
	for _, part := range []struct {
		bounds []bound
		asks   []limiter.Ask
	}{{sub.plan.rates, asks}, {sub.plan.permits, held}} {
		known := slices.DeleteFunc(part.asks, func(a limiter.Ask) bool { return a.State.Unknown })
		for i, state := range newRoom(len(known)).fill(part.bounds, known) {
			all = append(all, ordered{part.bounds[known[i].Limit].order, state})
		}
	}
	slices.SortFunc(all, func(a, b ordered) int { return a.order - b.order })
	states := make([]*quotav1.LimitState, len(all))
	for i := range all {
		states[i] = all[i].state
	}
	return s.usageOfQuotas(ctx, sub, states)
}

// replayKey names a check for its repetitions. Subject and cost are part of it:
// an idempotency key that was met before does not make another check free.
func (s *Service) replayKey(req *quotav1.CheckRequest, cost uint32) (limiter.Key, error) {
	text := binary.AppendUvarint(nil, uint64(cost))
	k, err := s.hash.key(append(text, req.GetIdempotencyKey()...))
	if err != nil {
		return k, failure(err)
	}
	for name, value := range req.GetSubject().GetAttributes() {
		text = binary.AppendUvarint(text[:0], uint64(len(name)))
		text = append(append(text, name...), value...)
		h, err := s.hash.key(text)
		if err != nil {
			return k, failure(err)
		}
		k.Hi, k.Lo = k.Hi+h.Hi, k.Lo+h.Lo // in any order: a map has none
	}
	return k, nil
}
