package quota

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// A lease lets a caller allow checks without asking. It is charged when it is
// given, all rules or none, so nothing is ever admitted that was not counted; and
// it ends before the part of the window ends that it was charged to (see
// [limiter.State], Slack), so it makes no difference when in it a check was. The
// life of one, on this side:
//
//	allowed, large limits      RETURN of its id, rules as they were
//	(nothing) ──────────▶ given ──────────▶ (nothing), what is left: undone
//	                        │ two lives later, the stream's end, or other rules
//	                        └──────────▶ (nothing), all stays charged
const (
	// leaseFor is how long a lease lasts at most, and shortestLease at least.
	leaseFor      = time.Second
	shortestLease = 10 * time.Millisecond
	// leastLease is what is worth it, mostLease what one lease has at most.
	leastLease, mostLease = 8, 4096
	// leaseShare of what is left is out at a time, over all streams and nodes.
	leaseShare = 16
	// leasesPerStream bounds what is remembered of a stream, about 300 bytes each; when
	// there are as many no lease is given.
	leasesPerStream = 16_384
	// leaseLater is how long to ask for no lease when there is too little left, and
	// leaseNever when there will be none by these rules.
	leaseLater = 100 * time.Millisecond
	leaseNever = time.Minute
)

// leased reports whether a limit may be leased at all. One in fast mode may not:
// deciding is no round trip to another node there, and others have to hear of each.
func leased(kind quotav1.RefusalKind, s limiter.Spec) bool {
	return kind == quotav1.RefusalKind_REFUSAL_KIND_RATE && !s.Penalty && !s.Fast && s.Max >= leastLease*leaseShare &&
		(s.Algorithm == limiter.Fixed || s.Algorithm == limiter.Sliding && s.Max > limiter.LogMax)
}

// leasable reports whether a check that was decided may have a lease.
func leasable(req *quotav1.CheckRequest, decided *quotav1.CheckResponse) bool {
	_, probe := costOf(req.Cost)
	return decided.GetAllowed() && !decided.GetDegraded() && !probe && req.GetIdempotencyKey() == ""
}

// leasable reports whether all limits that match may be leased. It reads no more
// attributes than it needs for that.
func (s *subject) leasable() bool {
	for _, c := range s.plan.index.at(s.attrs["action"], s.attrs["tool"]) {
		if !s.meets(c.when) {
			continue
		}
		t := s.terms(c.rule)
		if len(t.quotas) > 0 || slices.ContainsFunc(t.rates, func(n uint32) bool { return !s.plan.rates[n].leased }) {
			return false
		}
	}
	return true
}

// read are the names of the attributes that were looked at so far. A subject that
// has the same values of these is treated alike: which attribute is looked at next
// depends on those before alone.
func (s *subject) read() []string {
	names := []string{"action", "tool"} // by which rules are found
	for i, name := range s.plan.attributes {
		if s.loaded>>i&1 == 1 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// leases are those of one stream.
type leases struct {
	s *Service

	mu    sync.Mutex
	open  bool // the stream is among those that share what is left
	last  uint64
	given map[uint64]*given
	order []uint64 // of given, those that are gone too
}

// given is one lease.
type given struct {
	checks uint32
	rules  uint64
	until  time.Duration // then it is forgotten
	asks   []limiter.Ask // with the cost of one check, and marks
	reigns []uint64      // of other nodes; see [cluster.Node.Lend]
}

// give charges as many checks like req in advance as may be, and says so.
func (l *leases) give(ctx context.Context, req *quotav1.CheckRequest, decided *quotav1.CheckResponse) *quotav1.Lease {
	p := l.s.plan.Load()
	sub := l.s.subjectOf(p, req.GetSubject())
	none := func(life time.Duration) *quotav1.Lease {
		return &quotav1.Lease{Life: durationpb.New(life), Attributes: sub.read(), Rules: p.number}
	}
	if !sub.leasable() {
		return none(leaseNever)
	}
	cost, _ := costOf(req.Cost)
	asks, err := sub.appendAsks(nil, rates, cost)
	if err != nil || len(asks) != len(decided.GetLimits()) { // other rules than a moment ago
		return none(leaseLater)
	}
	if !l.join() {
		return none(leaseLater)
	}
	checks := min(req.GetLease(), mostLease)
	share := leaseShare * l.s.lessees()
	for i := range asks {
		left := decided.GetLimits()[i].GetRemaining() / share / uint64(asks[i].Cost)
		checks = uint32(min(uint64(checks), left))
	}
	if checks < leastLease {
		return none(leaseLater)
	}
	g := &given{checks: checks, rules: p.number, until: l.s.now() + 2*leaseFor, asks: asks}
	life, ok := l.s.lend(ctx, g)
	if !ok {
		return none(leaseLater)
	}
	if life < shortestLease {
		l.s.giveBackLease(g, checks)
		return none(shortestLease)
	}
	lease := none(life)
	lease.Id, lease.Checks, lease.Costs = l.add(g), checks, make([]uint32, len(asks))
	for i := range asks {
		lease.Costs[i] = asks[i].Cost
	}
	l.s.metrics.leased.Add(ctx, int64(checks))
	return lease
}

// join makes the stream one of those that share what is left, and reports whether
// it may have another lease.
func (l *leases) join() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		l.open, l.given = true, make(map[uint64]*given)
		l.s.streams.Add(1)
	}
	for now := l.s.now(); len(l.order) > 0; l.order = l.order[1:] {
		if g := l.given[l.order[0]]; g != nil && now < g.until {
			break
		}
		delete(l.given, l.order[0])
	}
	return len(l.order) < leasesPerStream
}

func (l *leases) add(g *given) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.given[l.last] = g
	l.order = append(l.order, l.last)
	return l.last
}

// takeBack ends leases, and undoes what was not used of them.
func (l *leases) takeBack(ctx context.Context, returns []*quotav1.LeaseReturn) {
	for _, r := range returns {
		l.mu.Lock()
		g := l.given[r.GetId()]
		delete(l.given, r.GetId())
		l.mu.Unlock()
		if g == nil {
			continue
		}
		unused := min(r.GetChecks(), g.checks)
		l.s.metrics.checks.allowed.Add(int64(g.checks - unused))
		l.s.giveBackLease(g, unused)
	}
}

// close forgets all. What a holder that is gone has used, nobody knows.
func (l *leases) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		l.s.streams.Add(-1)
		l.open, l.given, l.order = false, nil, nil
	}
}

// lessees is by how many what is left is shared.
func (s *Service) lessees() uint64 {
	n := max(uint64(s.streams.Load()), 1)
	if s.cluster != nil {
		n *= max(uint64(s.cluster.Nodes()), 1)
	}
	return n
}

// lend charges a lease, and tells how long it may last.
func (s *Service) lend(ctx context.Context, g *given) (life time.Duration, ok bool) {
	asks := g.times(g.checks)
	if s.cluster == nil {
		s.lending.RLock()
		taken, err := s.limiter.Take(s.now(), asks)
		s.lending.RUnlock()
		ok = taken && err == nil
	} else {
		g.reigns, ok = s.cluster.Lend(ctx, asks)
	}
	if !ok {
		return 0, false
	}
	life = leaseFor
	for i := range asks {
		g.asks[i].Mark = asks[i].Mark
		// A quarter less, for clocks that run at different rates.
		life = min(life, asks[i].State.Slack*3/4)
		if asks[i].Mark == 0 { // a shadow limit that is exceeded has taken nothing
			life = 0
		}
	}
	return life, true
}

// giveBackLease undoes the charge of so many checks. By other rules the marks may
// mean something else, so then it stays.
func (s *Service) giveBackLease(g *given, checks uint32) {
	if checks == 0 || len(g.asks) == 0 {
		return
	}
	s.lending.RLock()
	defer s.lending.RUnlock()
	if s.plan.Load().number != g.rules {
		return
	}
	if s.cluster != nil {
		s.cluster.GiveBack(g.times(checks), g.reigns)
		return
	}
	s.limiter.Undo(s.now(), g.times(checks))
}

// times are the asks for so many checks at once.
func (g *given) times(checks uint32) []limiter.Ask {
	asks := slices.Clone(g.asks)
	for i := range asks {
		asks[i].Cost *= checks
	}
	return asks
}
