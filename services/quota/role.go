package quota

import (
	"context"
	"net"
	"sync"
	"time"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/line"
)

// Role plays the quota service in a process.
var Role = app.Role{
	Name: "quota",
	Allow: map[string][]string{
		quotav1.QuotaService_ServiceDesc.ServiceName:      {"edge"},
		quotav1.QuotaAdminService_ServiceDesc.ServiceName: {"sallyport"},
		rls.RateLimitService_ServiceDesc.ServiceName:      {"envoy"},
	},
	New: func(env *app.Env) (app.Service, error) {
		cfg := DefaultConfig()
		cfg.Cluster.Enabled = env.Bus.Dialled()
		if err := env.Config(&cfg); err != nil {
			return nil, err
		}
		var s *Service
		var err error
		if cfg.Cluster.Enabled {
			peers := OnBus(env.Node, env.Bus)
			peers.Address = env.Reachable()
			peers.Dial = func(ctx context.Context, address string) (net.Conn, error) {
				return env.DialProtocol(ctx, "quota", address, line.Protocol)
			}
			s, err = NewMember(cfg, env.Meter, env.Log, peers)
		} else {
			s, err = New(cfg, env.Meter, env.Log)
		}
		if err != nil {
			return nil, err
		}
		if err := s.KeepLedger(env.Bus, cfg.MaxKeys, cfg.MaxBookings, env.Log); err != nil {
			return nil, err
		}
		env.Ready("ledger", s.LedgerReady)
		if cfg.Cluster.Enabled {
			env.Ready("cluster", s.Ready)
		}
		return s, nil
	},
}

// sweepEvery is how often one part of the counters is swept.
const sweepEvery = time.Second

// Run implements [app.Service]. It gives back the memory of counters, permits
// and answers that no longer matter, a part at a time, until ctx is done. It must
// not be called twice.
func (s *Service) Run(ctx context.Context) error {
	if s.book != nil {
		var keeper sync.WaitGroup
		keeper.Go(func() { s.book.Run(ctx) })
		defer keeper.Wait()
	}
	if s.cluster != nil {
		var member sync.WaitGroup
		member.Go(func() {
			defer s.lines.end()
			s.cluster.Run(ctx)
		})
		member.Go(func() { s.tellOthers(ctx) })
		defer member.Wait()
	}
	var follower sync.WaitGroup
	follower.Go(func() { s.followRules(ctx) })
	defer follower.Wait()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	defer close(s.stopping) // first of all
	for part := 0; ; part++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s.tellWall()
		s.limiter.Sweep(s.now(), part%s.limiter.Shards())
		if part%s.limiter.Shards() == 0 {
			s.permits.Sweep(s.now())
			s.replays.sweep(s.now())
		}
	}
}

// tellOthers exchanges counts in fast mode until ctx is done.
func (s *Service) tellOthers(ctx context.Context) {
	if err := s.fast.Run(ctx); err != nil {
		s.rules.log.Error("this quota node cannot hear of what others admit in fast mode", "err", err)
	}
}
