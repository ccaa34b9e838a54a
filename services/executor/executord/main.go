// Command executord plays the executor alone.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/executor"
)

func main() { app.Main(executor.Role) }
