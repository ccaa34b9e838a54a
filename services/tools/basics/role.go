package basics

import (
	_ "embed" // for descriptor.binpb

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

//go:embed descriptor.binpb
var image []byte

// Role runs the service and announces its tools. It has no configuration.
var Role = toolkit.Role("basics", image, func(*app.Env) (app.Service, error) { return new(Service), nil })
