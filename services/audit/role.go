package audit

import (
	"path/filepath"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// Role plays the audit service in a process.
var Role = app.Role{
	Name:  "audit",
	Allow: map[string][]string{auditv1.AuditService_ServiceDesc.ServiceName: {"sallyport"}},
	New: func(env *app.Env) (app.Service, error) {
		cfg := DefaultConfig()
		if err := env.Config(&cfg); err != nil {
			return nil, err
		}
		if cfg.Dir == "" {
			cfg.Dir = filepath.Join(env.StateDir, "audit")
		}
		s, err := New(Options{Config: cfg, Bus: env.Bus, Log: env.Log, Tracer: env.Tracer, Meter: env.Meter})
		if err != nil {
			return nil, err
		}
		env.Ready("index", s.Check)
		return s, nil
	},
}
