package sqlquery

import (
	_ "embed" // for descriptor.binpb

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

//go:embed descriptor.binpb
var image []byte

// Role runs the service and announces its tool.
var Role = toolkit.Role("sqlquery", image, func(env *app.Env) (app.Service, error) {
	cfg := DefaultConfig()
	if err := env.Config(&cfg); err != nil {
		return nil, err
	}
	s, err := New(cfg, env.StateDir)
	if err != nil {
		return nil, err
	}
	env.Ready("database", s.Ping)
	return s, nil
})
