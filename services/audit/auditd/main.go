// Auditd is the audit service in a process of its own.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/audit"
)

func main() { app.Main(audit.Role) }
