package quota

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/fast"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// Peers is how a member reaches the others.
type Peers struct {
	// Name is for people.
	Name  string
	Store cluster.Store
	Wire  cluster.Wire
	Fast  fast.Wire
	// Address is where others can dial this node; empty if they cannot.
	Address string
	// Dial makes a connection to another's address, for what need not cross NATS, to be
	// served there by [Service.ServeLine]; nil if all does.
	Dial func(ctx context.Context, address string) (net.Conn, error)
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
	s.tellWall()
	s.cluster, err = cluster.New(cluster.Options{
		Config: cfg.Cluster, Name: peers.Name, Store: peers.Store, Wire: peers.Wire, Address: peers.Address, Dial: peers.line(),
		Limiter: s.limiter, Permits: s.permits,
		Now: s.now, Check: s.checkForwarded, Seat: s.seat, Log: log, Meter: meter,
	})
	if err != nil {
		return nil, err
	}
	s.hash.cluster = s.cluster
	s.fast, err = fast.New(fast.Options{
		Config: cfg.Fast, Specs: s.plan.Load().rateSpecs, MaxKeys: cfg.MaxKeys, Now: s.now, Wall: s.limiter.Wall,
		Wire: peers.Fast, Members: s.cluster.Members, Log: log, Meter: meter,
	})
	return s, err
}

// Ready reports whether a member serves its part of the counts, and knows those of
// fast mode.
func (s *Service) Ready(ctx context.Context) error {
	if s.cluster == nil {
		return nil
	}
	return errors.Join(s.cluster.Ready(ctx), s.fast.Ready())
}

// checkTogether is Check of a member.
func (s *Service) checkTogether(ctx context.Context, req *quotav1.CheckRequest) (*quotav1.CheckResponse, error) {
	cost, probe := costOf(req.Cost)
	sub := s.subject(req.GetSubject())
	asks, err := sub.appendAsks(make([]limiter.Ask, 0, usual), rates, cost)
	if err != nil {
		return nil, err
	}
	return s.decideTogether(ctx, sub.plan, req, asks, cost, probe)
}

// decideTogether decides, or lets the node decide that remembers answers to the
// idempotency key.
func (s *Service) decideTogether(ctx context.Context, p *plan, req *quotav1.CheckRequest, asks []limiter.Ask, cost uint32, probe bool) (*quotav1.CheckResponse, error) {
	decide := func() (*quotav1.CheckResponse, error) {
		return s.decideMember(ctx, p, req, asks, probe)
	}
	if req.GetIdempotencyKey() == "" || probe {
		return decide()
	}
	key, err := s.replayKey(req, cost)
	if err != nil {
		return nil, err
	}
	if res, elsewhere, err := s.cluster.Forward(ctx, key, req); elsewhere {
		return res, failure(err)
	}
	return s.replays.answer(s.now(), key, decide)
}

// decideMember is decide over all nodes.
func (s *Service) decideMember(ctx context.Context, p *plan, req *quotav1.CheckRequest, asks []limiter.Ask, probe bool) (*quotav1.CheckResponse, error) {
	if len(p.quotas) > 0 {
		return s.decideDurably(ctx, p, req, asks, probe)
	}
	ok, err := s.spendTogether(ctx, asks, probe)
	if err != nil {
		return nil, err
	}
	return s.decided(ctx, p, ok, asks, probe), nil
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
	res, err := s.replays.answer(s.now(), key, func() (*quotav1.CheckResponse, error) {
		return s.decideMember(ctx, sub.plan, req, asks, false)
	})
	if err != nil {
		return nil
	}
	return res
}

// atOnce is how many checks of a batch are under way at a time. Those that go to
// one node travel together.
const atOnce = 128

// batchTogether decides the checks of a batch side by side.
func (s *Service) batchTogether(ctx context.Context, p *plan, checks []*quotav1.CheckRequest, asks []limiter.Ask, ends []int, results []*quotav1.CheckResponse) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	from := 0
	for i, c := range checks {
		part := asks[from:ends[i]:ends[i]]
		from = ends[i]
		g.Go(func() (err error) {
			cost, probe := costOf(c.Cost)
			if s.cluster == nil {
				results[i], err = s.check(ctx, p, c, part, cost, probe)
				return err
			}
			results[i], err = s.decideTogether(ctx, p, c, part, cost, probe)
			return err
		})
	}
	return g.Wait()
}

// OnBus are the peers on a bus.
func OnBus(name string, b *bus.Bus) Peers {
	return Peers{Name: name, Store: b, Wire: cluster.NATS(b), Fast: fast.NATS(b)}
}
