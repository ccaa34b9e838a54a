//go:build cgo

package pgguard

import (
	"fmt"
	"maps"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	sqlqueryv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/sqlquery/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/access"
)

// checker walks a tree. It stops at the first thing that is not allowed.
type checker struct {
	guard *Guard
	scope access.Scope
	full  bool // tables have their full names already
	depth int  // how many nodes are above
	found found
}

// Limits of a tree. What writes it down is C that recurses with no regard to its
// stack, and would end the process.
const (
	maxDepth  = 600
	maxTables = 64
)

// names are the common table expressions that can be seen from a place.
type names map[string]bool

// statement checks a whole query.
func (c *checker) statement(tree *pg.ParseResult) error {
	switch len(tree.GetStmts()) {
	case 0:
		return wrong("the query is empty")
	case 1:
	default:
		return fault.New(codes.PermissionDenied, sqlqueryv1.Reason_REASON_REFUSED,
			"only one query at a time is allowed: something follows the semicolon")
	}
	node := tree.GetStmts()[0].GetStmt()
	if node.GetSelectStmt() == nil {
		return refused("the query is no SELECT but %s", kind(node.ProtoReflect()))
	}
	return c.walk(node.ProtoReflect(), nil)
}

// walk checks m and all that is below it. It fails closed: a kind of node that
// is not on the list is refused wherever it is.
func (c *checker) walk(m protoreflect.Message, with names) error {
	if c.depth++; c.depth > maxDepth {
		return wrong("the query is too complex: nest it less deeply")
	}
	defer func() { c.depth-- }()
	if !nodes[string(m.Descriptor().Name())] {
		return refused("%s is refused", kind(m))
	}
	var err error
	switch n := m.Interface().(type) {
	case *pg.SelectStmt:
		return c.selection(n, with)
	case *pg.Node:
		if v := n.GetRangeVar(); v != nil {
			err = c.table(n, v, with)
		}
	case *pg.ColumnRef:
		err = c.column(n)
	case *pg.A_Indirection:
		err = indirection(n)
	case *pg.FuncCall:
		err = c.function(n)
	case *pg.TypeName:
		err = typeName(n)
	case *pg.A_Expr:
		err = operator(n.GetName())
	case *pg.SubLink:
		err = operator(n.GetOperName())
	case *pg.SortBy:
		err = operator(n.GetUseOp())
	case *pg.CollateClause:
		if l := text(n.GetCollname()); len(l) != 1 || !collations[l[0]] {
			err = refused("collation %s is refused", strings.Join(l, "."))
		}
	case *pg.SQLValueFunction:
		if n.GetOp() > pg.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP_N {
			err = refused("asking who is connected to what is refused")
		}
	}
	if err != nil {
		return err
	}
	return c.below(m, with)
}

// below walks all messages that are fields of m, but for those skipped.
func (c *checker) below(m protoreflect.Message, with names, skip ...protoreflect.Name) error {
	var err error
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil {
			return true
		}
		for _, s := range skip {
			if f.Name() == s {
				return true
			}
		}
		if !f.IsList() {
			err = c.walk(v.Message(), with)
			return err == nil
		}
		for i := range v.List().Len() {
			if err = c.walk(v.List().Get(i).Message(), with); err != nil {
				return false
			}
		}
		return true
	})
	return err
}

// selection checks a SELECT, which may be a part of a compound one, and sees
// its own common table expressions in the order in which PostgreSQL does.
func (c *checker) selection(s *pg.SelectStmt, with names) error {
	switch {
	case s.GetIntoClause() != nil:
		return refused("SELECT INTO writes a table and is refused")
	case len(s.GetLockingClause()) > 0:
		return refused("locking rows (FOR UPDATE and the like) is refused")
	}
	if w := s.GetWithClause(); w != nil {
		own := maps.Clone(with)
		if own == nil {
			own = make(names)
		}
		if w.GetRecursive() {
			for _, n := range w.GetCtes() {
				own[n.GetCommonTableExpr().GetCtename()] = true
			}
		}
		for _, n := range w.GetCtes() {
			name := n.GetCommonTableExpr().GetCtename()
			if strings.HasPrefix(name, "pg_") {
				return refused("a common table expression whose name begins with pg_ is refused")
			}
			if err := c.walk(n.ProtoReflect(), own); err != nil {
				return err
			}
			own[name] = true
		}
		with = own
	}
	return c.below(s.ProtoReflect(), with, "with_clause")
}

// table checks what a name in FROM means: a common table expression, or a table
// of the scope. Whether another table exists is not looked at, so the refusal
// cannot tell.
func (c *checker) table(n *pg.Node, v *pg.RangeVar, with names) error {
	schema, name := v.GetSchemaname(), v.GetRelname()
	if v.GetCatalogname() != "" {
		return refused("reading another database is refused")
	}
	if schema == "" && with[name] {
		return nil
	}
	t, ok := find(c.scope, schema, name)
	if !ok || schema == "" && c.full {
		if schema != "" {
			name = schema + "." + name
		}
		return refused("there is no table %q; %s", name, c.tables())
	}
	if c.found.tables = append(c.found.tables, place{n, t}); len(c.found.tables) > maxTables {
		return wrong("the query is too complex: it names more than %d tables", maxTables)
	}
	return nil
}

// tables says what there is.
func (c *checker) tables() string {
	all := c.scope.Names()
	const shown = 50
	more := ""
	if len(all) > shown {
		all, more = all[:shown], " and others"
	}
	if len(all) == 0 {
		return "there are none for this caller"
	}
	return "the tables are " + strings.Join(all, ", ") + more
}

// column checks a name of a column, such as t.c.
func (c *checker) column(r *pg.ColumnRef) error {
	l := text(r.GetFields())
	if len(l) > 3 {
		return refused("column %s is in another database", strings.Join(l, "."))
	}
	if len(l) == 0 {
		return nil // *
	}
	if systemColumns[l[len(l)-1]] {
		return refused("column %s, which every table has, is refused", l[len(l)-1])
	}
	// Of a row, t.f is the function f where there is no such column. Those of
	// pg_catalog that take any row compute, or tell of it as pg_column_size does.
	if last := l[len(l)-1]; len(r.GetFields()) > 1 && strings.HasPrefix(last, "pg_") {
		return refused("column %s is refused, for its name begins with pg_", strings.Join(l, "."))
	}
	if len(r.GetFields()) == 3 {
		if _, ok := find(c.scope, l[0], l[1]); !ok {
			return refused("there is no table %q; %s", l[0]+"."+l[1], c.tables())
		}
		c.found.columns = append(c.found.columns, r)
	}
	return nil
}

// indirection refuses (…).name. Where the value has no field of that name,
// PostgreSQL calls the function of that name: ('/etc/passwd').pg_read_file.
func indirection(n *pg.A_Indirection) error {
	if l := text(n.GetIndirection()); len(l) > 0 {
		return refused("(…).%s is refused: select columns by their names", l[0])
	}
	return nil
}

func (c *checker) function(f *pg.FuncCall) error {
	l := text(f.GetFuncname())
	name := l[len(l)-1]
	if len(l) > 1 && (len(l) != 2 || l[0] != "pg_catalog") || !c.guard.functions[name] {
		return refused("calling function %s is refused", strings.Join(l, "."))
	}
	return nil
}

func typeName(t *pg.TypeName) error {
	l := text(t.GetNames())
	if len(l) == 2 && l[0] == "pg_catalog" {
		l = l[1:]
	}
	if len(l) != 1 || !types[l[0]] || t.GetSetof() || t.GetPctType() {
		return refused("type %s is refused", strings.Join(l, "."))
	}
	return nil
}

// operator checks a name such as OPERATOR(pg_catalog.+).
func operator(name []*pg.Node) error {
	if l := text(name); len(l) > 1 && (len(l) != 2 || l[0] != "pg_catalog") {
		return refused("operator %s is refused", strings.Join(l, "."))
	}
	return nil
}

// text returns the strings among nodes.
func text(nodes []*pg.Node) []string {
	var out []string
	for _, n := range nodes {
		if s := n.GetString_(); s != nil {
			out = append(out, s.GetSval())
		}
	}
	return out
}

// kind says what a node is, for people.
func kind(m protoreflect.Message) string {
	if n, ok := m.Interface().(*pg.Node); ok {
		inner := n.ProtoReflect()
		f := inner.WhichOneof(inner.Descriptor().Oneofs().Get(0))
		if f == nil {
			return "nothing"
		}
		m = inner.Get(f).Message()
	}
	switch name := string(m.Descriptor().Name()); name {
	case "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt":
		return strings.ToUpper(strings.TrimSuffix(name, "Stmt"))
	case "XmlExpr", "XmlSerialize":
		return "XML"
	case "RangeTableSample":
		return "TABLESAMPLE"
	case "ColumnDef":
		return "a list of columns with types"
	default:
		return fmt.Sprintf("a %s", strings.TrimSuffix(name, "Stmt"))
	}
}
