package conformance

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

// Role runs the provider and announces it. It has no configuration.
var Role = toolkit.Provider("conformance", func(*app.Env) (app.Service, error) { return New(), nil })
