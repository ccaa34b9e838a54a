// Command authd plays the auth service.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

func main() { app.Main(auth.Role) }
