package policy

import (
	"cmp"
	_ "embed" // the schema
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

//go:embed schema.cedarschema
var schemaText []byte

// Schema returns the Cedar schema that policies are checked against, for people
// and their editors.
func Schema() string { return string(schemaText) }

// checker finds policies that could not mean what they say.
type checker struct {
	types      *validate.Validator
	schema     *resolved.Schema
	attributes map[cedar.String][]string // by variable, but for the resource
}

func newChecker() (*checker, error) {
	var s schema.Schema
	s.SetFilename("schema.cedarschema")
	if err := s.UnmarshalCedar(schemaText); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	r, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	c := &checker{
		types:  validate.New(r, validate.WithStrict()),
		schema: r,
		attributes: map[cedar.String][]string{
			"principal": names(r.Entities[typePrincipal].Shape),
			"context":   {arguments},
		},
	}
	for _, action := range r.Actions {
		if action.AppliesTo != nil {
			c.attributes["context"] = append(c.attributes["context"], names(action.AppliesTo.Context)...)
		}
	}
	for variable, known := range c.attributes {
		c.attributes[variable] = sorted(known)
	}
	return c, nil
}

func names(r resolved.RecordType) (all []string) {
	for name := range r {
		all = append(all, string(name))
	}
	return all
}

func sorted(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// known returns the attributes that a variable can have where a rule applies.
func (c *checker) known(r *Rule, variable cedar.String) (known []string, ok bool) {
	if variable != "resource" {
		known, ok = c.attributes[variable]
		return known, ok
	}
	for _, action := range c.schema.Actions {
		if action.AppliesTo == nil || !covers(r.tree.Action, action.Entity) {
			continue
		}
		for _, kind := range action.AppliesTo.Resources {
			if concerns(r.tree.Resource, kind) {
				known = append(known, names(c.schema.Entities[kind].Shape)...)
			}
		}
	}
	return sorted(known), true
}

// rule returns all that is wrong with a policy. Policies that do not read
// arguments are type-checked as they are. Arguments have no type, so of policies
// that read them the names of attributes are checked, and the types in all parts
// beside arguments. What is left, a comparison of an argument with something of
// another type, shows when the policy is evaluated, where it denies.
func (c *checker) rule(r *Rule) (ps []Problem) {
	if r.needs&NeedArguments == 0 {
		return r.mistakes(c.types.Policy("", r.tree))
	}
	ps = r.mistakes(c.policy(r))
	for _, condition := range r.tree.Conditions {
		ast.Inspect(ast.NewNode(condition.Body), func(n ast.IsNode) bool {
			variable, attribute, ok := access(n)
			if !ok {
				return true
			}
			if known, ok := c.known(r, variable); ok && !slices.Contains(known, attribute) {
				ps = append(ps, r.problem("%s has no attribute %q, it has %s",
					variable, attribute, cmp.Or(strings.Join(known, ", "), "none")))
			}
			return true
		})
	}
	if len(ps) > 0 {
		return ps // the same would be found again
	}
	var guards []ast.IsNode
	for _, condition := range r.tree.Conditions {
		var more []ast.IsNode
		var sure bool
		more, sure, ps = c.beside(r, condition.Body, guards, ps)
		if !sure {
			break
		}
		if condition.Condition == ast.ConditionWhen {
			guards = append(guards, more...)
		}
	}
	return ps
}

// policy type-checks a policy with the scope of r and some conditions, of which
// each is evaluated only if those before it are true.
func (c *checker) policy(r *Rule, conditions ...ast.IsNode) error {
	p := *r.tree
	p.Conditions = nil
	if len(conditions) > 0 {
		body := ast.NewNode(conditions[0])
		for _, next := range conditions[1:] {
			body = body.And(ast.NewNode(next))
		}
		p.Conditions = []ast.ConditionType{{Condition: ast.ConditionWhen, Body: body.AsIsNode()}}
	}
	return c.types.Policy("", &p)
}

// beside type-checks the parts of a condition that do not read arguments, where
// guards are true. It returns what is true, of that, when the condition is; and
// false if it cannot tell, because the condition tests for an attribute in a
// part that reads arguments: then what comes after it may rely on that.
func (c *checker) beside(r *Rule, n ast.IsNode, guards []ast.IsNode, ps []Problem) ([]ast.IsNode, bool, []Problem) {
	if read, _ := reads(n); read&readsArguments == 0 {
		return []ast.IsNode{n}, true, append(ps, r.mistakes(c.policy(r, slices.Concat(guards, []ast.IsNode{n})...))...)
	}
	switch n := n.(type) {
	case ast.NodeTypeAnd:
		left, sure, ps := c.beside(r, n.Left, guards, ps)
		if !sure {
			return nil, false, ps
		}
		right, sure, ps := c.beside(r, n.Right, slices.Concat(guards, left), ps)
		return slices.Concat(left, right), sure, ps
	case ast.NodeTypeOr:
		_, sure, ps := c.beside(r, n.Left, guards, ps)
		_, also, ps := c.beside(r, n.Right, guards, ps)
		return nil, sure && also && !tests(n), ps
	case ast.NodeTypeNot:
		_, sure, ps := c.beside(r, n.Arg, guards, ps)
		return nil, sure, ps
	}
	return nil, !tests(n), ps
}

// tests reports whether an expression asks if an attribute of the context is
// there, other than arguments.
func tests(n ast.IsNode) (it bool) {
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		if has, ok := n.(ast.NodeTypeHas); ok {
			variable, attribute, ok := access(has)
			it = it || ok && variable == "context" && attribute != arguments
		}
		return !it
	})
	return it
}

// access tells which attribute of which variable a node reads or tests.
func access(n ast.IsNode) (variable cedar.String, attribute string, ok bool) {
	var op ast.StrOpNode
	switch n := n.(type) {
	case ast.NodeTypeAccess:
		op = n.StrOpNode
	case ast.NodeTypeHas:
		op = n.StrOpNode
	default:
		return "", "", false
	}
	v, ok := op.Arg.(ast.NodeTypeVariable)
	return v.Name, string(op.Value), ok
}

// readsObject tells whether the verdict of a policy can differ between two
// objects of one type.
func readsObject(p *ast.Policy) bool {
	switch p.Resource.(type) {
	case ast.ScopeTypeAll, ast.ScopeTypeIs:
	default:
		return true
	}
	return slices.ContainsFunc(p.Conditions, func(c ast.ConditionType) bool { return looksAtObject(c.Body) })
}

// looksAtObject tells whether what an expression says can differ between two objects
// of one type. One that is named has attributes only where the request is about it.
func looksAtObject(n ast.IsNode) (it bool) {
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		v, ok := n.(ast.NodeTypeVariable)
		it = it || ok && v.Name == "resource"
		return !it
	})
	literals(n, func(uid cedar.EntityUID) {
		it = it || uid.Type != typePrincipal && uid.Type != typeRole && uid.Type != typeAction
	})
	return it
}

// roles calls yield with each role that the policy names, perhaps repeatedly.
func (r *Rule) roles(yield func(string)) {
	literal := func(uid cedar.EntityUID) {
		if uid.Type == typeRole {
			yield(string(uid.ID))
		}
	}
	switch scope := r.tree.Principal.(type) {
	case ast.ScopeTypeEq:
		literal(scope.Entity)
	case ast.ScopeTypeIn:
		literal(scope.Entity)
	case ast.ScopeTypeIsIn:
		literal(scope.Entity)
	}
	for _, condition := range r.tree.Conditions {
		literals(condition.Body, literal)
	}
}

// literals calls yield with each entity that an expression names.
func literals(n ast.IsNode, yield func(cedar.EntityUID)) {
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		if v, ok := n.(ast.NodeValue); ok {
			switch v := v.Value.(type) {
			case cedar.EntityUID:
				yield(v)
			case cedar.Set:
				for element := range v.All() {
					if uid, ok := element.(cedar.EntityUID); ok {
						yield(uid)
					}
				}
			}
		}
		return true
	})
}
