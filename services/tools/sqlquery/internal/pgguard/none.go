//go:build !cgo

package pgguard

import (
	"errors"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

// Supported says that this program was built without the parser. It fails
// closed.
func Supported() error {
	return errors.New("queries on PostgreSQL need a program that was built with cgo (CGO_ENABLED=1 and a C compiler): this one has no parser to guard them")
}

// Query is never made.
type Query struct{}

// Parse refuses every query.
func (*Guard) Parse(string, access.Scope) (*Query, error) {
	return nil, refused("this program was built without a parser for PostgreSQL")
}

// Tables returns nothing.
func (*Query) Tables() []Name { return nil }

// SQL refuses.
func (*Query) SQL(Columns) (string, error) { return "", refused("this program has no parser") }
