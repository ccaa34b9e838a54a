package customers

import (
	_ "embed" // for descriptor.binpb

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

//go:embed descriptor.binpb
var image []byte

// Role runs the service and announces its tools.
var Role = toolkit.Role("customers", image, func(env *app.Env) (app.Service, error) {
	cfg := DefaultConfig()
	if err := env.Config(&cfg); err != nil {
		return nil, err
	}
	s, err := New(cfg, env.StateDir, env.Log)
	if err != nil {
		return nil, err
	}
	env.Ready("database", s.Ping)
	return s, nil
})
