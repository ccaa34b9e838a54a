package logs

import (
	"context"
	_ "embed" // for descriptor.binpb
	"path/filepath"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/demo"
)

//go:embed descriptor.binpb
var image []byte

// Role runs the service and announces its tool. Without a folder in its
// configuration it makes one with demo logs.
var Role = toolkit.Role("logs", image, func(env *app.Env) (app.Service, error) {
	cfg := DefaultConfig()
	if err := env.Config(&cfg); err != nil {
		return nil, err
	}
	run := (*Service).Run
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(env.StateDir, "demo-logs")
		run = runDemo
	}
	svc, err := New(cfg, env.Log)
	if err != nil {
		return nil, err
	}
	env.Ready("folder", svc.Ready)
	return role{svc, run}, nil
})

type role struct {
	*Service
	run func(*Service, context.Context) error
}

// Run implements [app.Service].
func (r role) Run(ctx context.Context) error { return r.run(r.Service, ctx) }

// runDemo makes the demo logs first. That is not for New, which also serves to
// check a configuration and should leave no traces.
func runDemo(s *Service, ctx context.Context) error {
	if err := demo.Seed(s.cfg.Dir); err != nil {
		return err
	}
	return s.Run(ctx)
}
