package quota

import (
	"context"
	"log/slog"
	"sync"

	"go.opentelemetry.io/otel/metric"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Peers is how a member reaches the others.
type Peers struct {
	// Name is for people.
	Name  string
	Store cluster.Store
	Wire  cluster.Wire
}

// NewMember is [New] for a node that counts together with others while it runs.
func NewMember(cfg Config, meter metric.Meter, log *slog.Logger, peers Peers) (*Service, error) {
	s, err := New(cfg, meter, log)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s.origin = cluster.Origin
	s.cluster = cluster.New(cluster.Options{
		Config: cfg.Cluster, Name: peers.Name, Store: peers.Store, Wire: peers.Wire,
		Limiter: s.limiter, Permits: s.permits, RateIDs: s.plan.rateIDs, PermitIDs: s.plan.permitIDs,
		Now: s.now, Check: s.checkForwarded, Log: log,
	})
	s.hash.cluster = s.cluster
	return s, nil
}

// Ready reports whether a member serves its part of the counts.
func (s *Service) Ready(ctx context.Context) error {
	if s.cluster == nil {
		return nil
	}
	return s.cluster.Ready(ctx)
}

// checkForwarded decides a check with an idempotency key for another node; nil
// if it cannot.
func (s *Service) checkForwarded(ctx context.Context, req *quotav1.CheckRequest) *quotav1.CheckResponse {
	cost, _ := costOf(req.Cost)
	sub := s.subject(req.GetSubject())
	asks, err := sub.appendAsks(nil, rates, cost)
	if err != nil {
		return nil
	}
	key, err := s.replayKey(req, cost)
	if err != nil {
		return nil
	}
	res, err := s.decideOnce(ctx, key, asks)
	if err != nil {
		return nil
	}
	return res
}

// atOnce is how many checks of a batch are under way at a time. Those that go to
// one node travel together.
const atOnce = 128

// checkTogether decides the checks of a batch side by side.
func (s *Service) checkTogether(ctx context.Context, checks []*quotav1.CheckRequest, asks []limiter.Ask, ends []int, results []*quotav1.CheckResponse) error {
	var g sync.WaitGroup
	errs := make([]error, len(checks))
	slots := make(chan struct{}, atOnce)
	from := 0
	for i, c := range checks {
		part := asks[from:ends[i]:ends[i]]
		from = ends[i]
		slots <- struct{}{}
		g.Go(func() {
			cost, probe := costOf(c.Cost)
			results[i], errs[i] = s.check(ctx, c, part, cost, probe)
			<-slots
		})
	}
	g.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// peekTogether fills in the states of limits and permits.
func (s *Service) peekTogether(ctx context.Context, asks, held []limiter.Ask) error {
	if _, err := s.cluster.Peek(ctx, asks); err != nil {
		return failure(err)
	}
	_, err := s.cluster.PeekPermits(ctx, held)
	return failure(err)
}
