// Command edged runs the edge service as a process of its own.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

func main() { app.Main(edge.Role) }
