package executor

import (
	"context"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/approval"
)

// Role plays the executor in a process.
var Role = app.Role{
	Name: "executor",
	Allow: map[string][]string{
		"sallyport.executor.v1.ExecutorService": {"edge", "sallyport"},
		"sallyport.executor.v1.ApprovalService": {"sallyport"},
	},
	New: func(env *app.Env) (app.Service, error) {
		cfg := DefaultConfig()
		if err := env.Config(&cfg); err != nil {
			return nil, err
		}
		if len(cfg.GrantKeyFiles) == 0 {
			cfg.GrantKeyFiles = []string{filepath.Join(env.StateDir, "secrets", "grant.key")}
		}
		store, err := approval.New(approval.Options{Config: cfg.Hold, Bucket: env.Bus, Audit: env.Audit, Log: env.Log})
		if err != nil {
			return nil, err
		}
		s, err := New(Options{
			Config: cfg, Audit: env.Audit, Bus: env.Bus, Used: env.Bus, Contexts: env.Bus, Hold: Hold{store}, Log: env.Log, Meter: env.Meter, Tracer: env.Tracer,
			Dial: func(service, address string) (Conn, error) { return env.Dial(service, address) },
		})
		if err != nil {
			return nil, err
		}
		approvals := NewApprovals(store, s, env.Audit, env.Log)
		env.Ready("catalogue", s.Ready)
		env.Ready("approvals", approvals.Ready)
		return both{s, approvals}, nil
	},
}

// both are the services of the role.
type both struct {
	executor  *Service
	approvals *Approvals
}

// Register implements [app.Service].
func (b both) Register(r grpc.ServiceRegistrar) {
	b.executor.Register(r)
	b.approvals.Register(r)
}

// Run implements [app.Service].
func (b both) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.executor.Run(ctx) })
	group.Go(func() error { return b.approvals.Run(ctx) })
	return group.Wait()
}
