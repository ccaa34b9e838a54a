// Command logsd runs the logs tool service alone.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/tools/logs"
)

func main() { app.Main(logs.Role) }
