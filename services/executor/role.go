package executor

import (
	"path/filepath"

	"github.com/sallyport-mcp/sallyport/pkg/app"
)

// Role plays the executor in a process.
var Role = app.Role{
	Name:  "executor",
	Allow: map[string][]string{"sallyport.executor.v1.ExecutorService": {"edge", "sallyport"}},
	New: func(env *app.Env) (app.Service, error) {
		cfg := DefaultConfig()
		if err := env.Config(&cfg); err != nil {
			return nil, err
		}
		if len(cfg.GrantKeyFiles) == 0 {
			cfg.GrantKeyFiles = []string{filepath.Join(env.StateDir, "secrets", "grant.key")}
		}
		s, err := New(Options{
			Config: cfg, Audit: env.Audit, Bus: env.Bus, Log: env.Log, Meter: env.Meter, Tracer: env.Tracer,
			Dial: func(service, address string) (Conn, error) { return env.Dial(service, address) },
		})
		if err != nil {
			return nil, err
		}
		env.Ready("catalogue", s.Ready)
		return s, nil
	},
}
