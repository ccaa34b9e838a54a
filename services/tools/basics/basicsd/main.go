// Command basicsd runs the tool service basics alone.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/tools/basics"
)

func main() { app.Main(basics.Role) }
