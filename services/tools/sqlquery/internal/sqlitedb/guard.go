package sqlitedb

import (
	"fmt"
	"strings"

	"modernc.org/sqlite"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

// policy is what queries may do. It never changes, and names are in lower case.
type policy struct {
	tables    map[string]bool
	veiled    map[string]bool // tables that are read through a view of ours alone
	functions map[string]bool
}

// newPolicy returns the policy for one query.
func newPolicy(scope access.Scope, functions map[string]bool) *policy {
	p := &policy{tables: make(map[string]bool), veiled: make(map[string]bool), functions: functions}
	for _, t := range scope.Tables {
		name := strings.ToLower(t.Name)
		p.tables[name] = true
		p.veiled[name] = p.veiled[name] || veiled(t)
	}
	return p
}

func set(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[strings.ToLower(n)] = true
	}
	return out
}

// guard is the authorizer of one connection. It denies what it does not know.
type guard struct {
	file    string  // what the connection calls the file; see [DB]
	policy  *policy // of the query that is running
	pass    string  // what views of ours call what they read; see veil.go
	own     bool    // a statement of ours is being compiled
	refused string  // the first thing that was denied, in words
}

// trusted runs a statement of this package, for which the guard stands aside.
func (g *guard) trusted(run func() error) error {
	g.own = true
	defer func() { g.own = false }()
	return run()
}

// authorize implements [sqlite.AuthorizerFn]. It runs within the call that
// compiles the statement, hence needs no lock.
//
// The view, or common table, that asks has a name that a query can choose. It
// counts for nothing unless it is the pass, which is random and of one query.
func (g *guard) authorize(action sqlite.AuthorizerActionCode, arg1, arg2, database, asks string) sqlite.AuthorizerReturnCode {
	if g.own {
		return sqlite.AuthorizerOK
	}
	ours := g.pass != "" && asks == g.pass
	switch action {
	case sqlite.AuthSelect, sqlite.AuthRecursive:
		return sqlite.AuthorizerOK
	case sqlite.AuthFunction:
		if ours || g.policy.functions[strings.ToLower(arg2)] {
			return sqlite.AuthorizerOK
		}
		return g.deny("calling function " + arg2)
	case sqlite.AuthRead:
		name := strings.ToLower(arg1)
		switch {
		case arg2 == "" && (database == "" || database == g.file):
			// A table of which no column is used, or a subquery: SQLite does not
			// tell which, nor who asks. The check of the program does.
			return sqlite.AuthorizerOK
		case !g.policy.tables[name]:
		case database == "temp", database == "": // a view of ours, or what is made of one
			return sqlite.AuthorizerOK
		case database == g.file && (ours || !g.policy.veiled[name]):
			return sqlite.AuthorizerOK
		}
		return g.deny("reading table " + arg1)
	}
	return g.deny(inWords(action, arg1, arg2))
}

func (g *guard) deny(what string) sqlite.AuthorizerReturnCode {
	if g.refused == "" {
		g.refused = what
	}
	return sqlite.AuthorizerDeny
}

// inWords says what an action does.
func inWords(action sqlite.AuthorizerActionCode, arg1, arg2 string) string {
	switch action {
	case sqlite.AuthInsert:
		return "inserting into table " + arg1
	case sqlite.AuthUpdate:
		return fmt.Sprintf("updating column %s of table %s", arg2, arg1)
	case sqlite.AuthDelete:
		return "deleting from table " + arg1
	case sqlite.AuthPragma:
		return "PRAGMA " + arg1
	case sqlite.AuthAttach:
		return "attaching a database"
	case sqlite.AuthDetach:
		return "detaching a database"
	case sqlite.AuthTransaction, sqlite.AuthSavepoint:
		return "controlling transactions"
	case sqlite.AuthAlterTable, sqlite.AuthReindex, sqlite.AuthAnalyze:
		return "changing the schema"
	case sqlite.AuthCreateVTable, sqlite.AuthDropVTable:
		return "virtual tables"
	}
	return "changing the database" // all other actions create or drop something
}
