package quota

import (
	"context"
	"time"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// usual is how many limits a check has as a rule; more cost an allocation.
const usual = 8

// Register adds the service to srv, and Envoy's rate limit service.
func (s *Service) Register(srv grpc.ServiceRegistrar) {
	quotav1.RegisterQuotaServiceServer(srv, s)
	quotav1.RegisterQuotaAdminServiceServer(srv, admin{s: s})
	rls.RegisterRateLimitServiceServer(srv, envoy{s: s})
}

// costOf reads a cost: probe tells that nothing is to be taken.
func costOf(cost *uint32) (n uint32, probe bool) {
	switch {
	case cost == nil:
		return 1, false
	case *cost == 0:
		return 1, true
	}
	return *cost, false
}

// Check implements [quotav1.QuotaServiceServer].
func (s *Service) Check(ctx context.Context, req *quotav1.CheckRequest) (*quotav1.CheckResponse, error) {
	if s.cluster != nil {
		return s.checkTogether(ctx, req)
	}
	cost, probe := costOf(req.Cost)
	sub := s.subject(req.GetSubject())
	var buf [usual]limiter.Ask
	asks, err := sub.appendAsks(buf[:0], rates, cost)
	if err != nil {
		return nil, err
	}
	return s.check(ctx, sub.plan, req, asks, cost, probe)
}

// check decides, or repeats what was decided.
func (s *Service) check(ctx context.Context, p *plan, req *quotav1.CheckRequest, asks []limiter.Ask, cost uint32, probe bool) (*quotav1.CheckResponse, error) {
	if req.GetIdempotencyKey() == "" || probe {
		return s.decideAll(ctx, p, req, asks, probe)
	}
	asks = append([]limiter.Ask(nil), asks...) // the closure would take all callers' asks to the heap
	key, err := s.replayKey(req, cost)
	if err != nil {
		return nil, err
	}
	return s.replays.answer(s.now(), key, func() (*quotav1.CheckResponse, error) {
		return s.decideAll(ctx, p, req, asks, false)
	})
}

// decideAll decides about rates, and about the quotas that match.
func (s *Service) decideAll(ctx context.Context, p *plan, req *quotav1.CheckRequest, asks []limiter.Ask, probe bool) (*quotav1.CheckResponse, error) {
	if len(p.quotas) > 0 {
		return s.decideDurably(ctx, p, req, asks, probe)
	}
	return s.decide(ctx, p, asks, probe)
}

func (s *Service) decide(ctx context.Context, p *plan, asks []limiter.Ask, probe bool) (*quotav1.CheckResponse, error) {
	ok, err := s.spend(asks, probe)
	if err != nil {
		return nil, err
	}
	return s.decided(ctx, p, ok, asks, probe), nil
}

// decided counts a decision and makes its answer.
func (s *Service) decided(ctx context.Context, p *plan, ok bool, asks []limiter.Ask, probe bool) *quotav1.CheckResponse {
	res, rule := s.answer(p, ok, p.rates, asks)
	s.metrics.checked(p, rule)
	if res.GetDegraded() {
		s.metrics.spared(ctx, p, asks)
	}
	if ok && !probe {
		s.metrics.shadowed(ctx, p, p.rates, asks)
	}
	return res
}

// CheckBatch implements [quotav1.QuotaServiceServer]. A malformed attribute
// fails the batch before anything is taken. Should memory be full, the checks
// before the one without room stay charged.
func (s *Service) CheckBatch(ctx context.Context, req *quotav1.CheckBatchRequest) (*quotav1.CheckBatchResponse, error) {
	checks := req.GetChecks()
	p := s.plan.Load()
	asks := make([]limiter.Ask, 0, min(usual, p.most)*len(checks))
	ends := make([]int, len(checks))
	for i, c := range checks {
		cost, _ := costOf(c.Cost)
		sub := s.subjectOf(p, c.GetSubject())
		var err error
		if asks, err = sub.appendAsks(asks, rates, cost); err != nil {
			return nil, err
		}
		ends[i] = len(asks)
	}
	res := &quotav1.CheckBatchResponse{Results: make([]*quotav1.CheckResponse, len(checks))}
	if s.cluster != nil || len(p.quotas) > 0 { // bookings travel together
		return res, s.batchTogether(ctx, p, checks, asks, ends, res.Results)
	}
	from := 0
	for i, c := range checks {
		cost, probe := costOf(c.Cost)
		var err error
		if res.Results[i], err = s.check(ctx, p, c, asks[from:ends[i]], cost, probe); err != nil {
			return nil, err
		}
		from = ends[i]
	}
	return res, nil
}

// Peek implements [quotav1.QuotaServiceServer]. It is not counted as a check.
func (s *Service) Peek(ctx context.Context, req *quotav1.PeekRequest) (*quotav1.PeekResponse, error) {
	cost, _ := costOf(req.Cost)
	sub := s.subject(req.GetSubject())
	asks, err := sub.appendAsks(nil, rates, cost)
	if err != nil {
		return nil, err
	}
	res, _, err := s.judge(ctx, sub.plan, &quotav1.CheckRequest{Subject: req.GetSubject(), Cost: req.Cost}, asks, true)
	if err != nil {
		return nil, err
	}
	return &quotav1.PeekResponse{Check: res}, nil
}

// Acquire implements [quotav1.QuotaServiceServer]. A permit ends no later than
// its rule's ttl says, whatever the request does. The retry_after of a refusal
// is until the next permit ends by itself; it is over sooner if one is released.
func (s *Service) Acquire(ctx context.Context, req *quotav1.AcquireRequest) (*quotav1.AcquireResponse, error) {
	sub := s.subject(req.GetSubject())
	asks, err := sub.appendAsks(nil, permits, 1)
	if err != nil {
		return nil, err
	}
	var ttl time.Duration
	if req.GetTtl() != nil {
		ttl = req.GetTtl().AsDuration()
	}
	id, ok, err := s.acquire(ctx, asks, ttl)
	if err != nil {
		return nil, err
	}
	res, rule := s.answer(sub.plan, ok, sub.plan.permits, asks)
	s.metrics.checked(sub.plan, rule)
	if ok {
		s.metrics.shadowed(ctx, sub.plan, sub.plan.permits, asks)
	}
	return &quotav1.AcquireResponse{Check: res, PermitId: id}, nil
}

// Release implements [quotav1.QuotaServiceServer].
func (s *Service) Release(ctx context.Context, req *quotav1.ReleaseRequest) (*quotav1.ReleaseResponse, error) {
	if s.cluster != nil {
		if err := s.cluster.Release(ctx, req.GetPermitId()); err != nil {
			return nil, failure(err)
		}
		return &quotav1.ReleaseResponse{}, nil
	}
	s.permits.Release(req.GetPermitId())
	return &quotav1.ReleaseResponse{}, nil
}

// Usage implements [quotav1.QuotaServiceServer]. A limit is shown as exceeded if
// a cost of 1 would not pass.
func (s *Service) Usage(ctx context.Context, req *quotav1.UsageRequest) (*quotav1.UsageResponse, error) {
	sub := s.subject(req.GetSubject())
	limits, err := s.usage(ctx, &sub)
	if err != nil {
		return nil, err
	}
	return &quotav1.UsageResponse{Limits: limits}, nil
}
