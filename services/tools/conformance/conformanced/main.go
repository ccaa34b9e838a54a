// Command conformanced runs the provider conformance alone.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/tools/conformance"
)

func main() { app.Main(conformance.Role) }
