// Command mcpbridged runs the provider mcpbridge alone.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge"
)

func main() { app.Main(mcpbridge.Role) }
