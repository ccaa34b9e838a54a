// Command openapid runs the provider openapi alone.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi"
)

func main() { app.Main(openapi.Role) }
