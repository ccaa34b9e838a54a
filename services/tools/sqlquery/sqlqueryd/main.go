// Command sqlqueryd runs the tool service sqlquery alone.
package main

import (
	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

func main() { app.Main(sqlquery.Role) }
