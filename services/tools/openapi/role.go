package openapi

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

// Role runs the provider and announces it. APIs that are down do not make it less
// ready: they are no part of the system.
var Role = toolkit.Provider("openapi", func(env *app.Env) (app.Service, error) {
	cfg := DefaultConfig()
	if err := env.Config(&cfg); err != nil {
		return nil, err
	}
	return New(cfg, env.Version, env.Log)
})
