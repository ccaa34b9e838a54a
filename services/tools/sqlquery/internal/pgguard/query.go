//go:build cgo

package pgguard

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v6"
	"github.com/pganalyze/pg_query_go/v6/parser"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

const (
	// maxRunes is what the tool's contract allows too. The parser recurses, on a
	// stack of 8 MiB, as deep as the text can make it; three times as much is
	// known to be safe.
	maxRunes   = 10_000
	maxMessage = 300 // runes
)

// Supported says whether there is a parser.
func Supported() error { return nil }

// Query is a query that may run. It is used by one goroutine, and once.
type Query struct {
	guard *Guard
	scope access.Scope
	tree  *pg.ParseResult
	found found
}

// Parse returns a query that reads tables of the scope and does nothing else.
// Its errors are faults that say what was wrong; they do not tell a table that
// is not in the scope from one that does not exist.
func (g *Guard) Parse(query string, scope access.Scope) (*Query, error) {
	if utf8.RuneCountInString(query) > maxRunes {
		return nil, wrong("the query has more than %d characters", maxRunes)
	}
	tree, err := parse(query)
	if err != nil {
		return nil, err
	}
	c := &checker{guard: g, scope: scope}
	if err := c.statement(tree); err != nil {
		return nil, err
	}
	return &Query{guard: g, scope: scope, tree: tree, found: c.found}, nil
}

// Tables returns the tables that the query reads, sorted, each once.
func (q *Query) Tables() []Name {
	out := make([]Name, len(q.found.tables))
	for i, t := range q.found.tables {
		out[i] = nameOf(t.table)
	}
	slices.SortFunc(out, func(a, b Name) int {
		return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Table, b.Table))
	})
	return slices.Compact(out)
}

// SQL returns the text to run, given the columns of all tables that the query
// reads. It is parsed and checked once more, so that what runs has been checked
// and not what it was written from.
func (q *Query) SQL(columns Columns) (string, error) {
	if err := q.found.replace(columns); err != nil {
		return "", err
	}
	text, err := pg.Deparse(q.tree)
	if err != nil {
		return "", wrong("the query cannot be read: %s", plain(err))
	}
	tree, err := parse(text)
	if err != nil {
		return "", fmt.Errorf("parse what was written: %w", err)
	}
	c := &checker{guard: q.guard, scope: q.scope, full: true}
	if err := c.statement(tree); err != nil {
		return "", fmt.Errorf("check what was written: %w", err)
	}
	return text, nil
}

func parse(query string) (*pg.ParseResult, error) {
	if strings.ContainsRune(query, 0) { // where the parser's text would end
		return nil, wrong("the query contains a NUL character")
	}
	tree, err := pg.Parse(query)
	if err != nil {
		return nil, wrong("%s", plain(err))
	}
	return tree, nil
}

// plain returns what the parser says, which may quote much of the query.
func plain(err error) string {
	e, ok := errors.AsType[*parser.Error](err)
	if !ok {
		return "the query is too complex" // for the tree to be decoded
	}
	text := []rune(strings.ToValidUTF8(e.Message, "\uFFFD"))
	if len(text) > maxMessage {
		text = append(text[:maxMessage], '…')
	}
	return string(text)
}
