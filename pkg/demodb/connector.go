package demodb

import (
	"context"
	"database/sql/driver"

	"modernc.org/sqlite"
)

// FileConnector is a [driver.Connector] for one SQLite file; see [Connector].
type FileConnector struct {
	dsn    string
	driver *sqlite.Driver
}

// Connect implements [driver.Connector].
func (c *FileConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.driver.Open(c.dsn)
}

// Driver implements [driver.Connector].
func (c *FileConnector) Driver() driver.Driver { return c.driver }
