// Command customersd runs the tool service customers alone.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/tools/customers"
)

func main() { app.Main(customers.Role) }
