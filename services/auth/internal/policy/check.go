package policy

import (
	"cmp"
	_ "embed" // the schema
	"errors"
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

// arguments is the one attribute of the context that has no type.
const arguments = "arguments"

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
// arguments are type-checked; arguments have no type, so of those that do the
// names of attributes are checked, and a mistake in types shows when the policy
// is evaluated, where it denies.
func (c *checker) rule(r *Rule) error {
	if !r.readsArguments {
		if err := c.types.Policy("", r.tree); err != nil {
			return at(r, err)
		}
		return nil
	}
	scope := *r.tree
	scope.Conditions = nil
	errs := []error{at(r, c.types.Policy("", &scope))}
	for _, condition := range r.tree.Conditions {
		ast.Inspect(ast.NewNode(condition.Body), func(n ast.IsNode) bool {
			variable, attribute, ok := access(n)
			if !ok {
				return true
			}
			if known, ok := c.known(r, variable); ok && !slices.Contains(known, attribute) {
				errs = append(errs, fmt.Errorf("%s: %s has no attribute %q, it has %s",
					r.Source, variable, attribute, cmp.Or(strings.Join(known, ", "), "none")))
			}
			return true
		})
	}
	return errors.Join(errs...)
}

// at puts the place of the policy before each error.
func at(r *Rule, err error) error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		errs := many.Unwrap()
		placed := make([]error, len(errs))
		for i, e := range errs {
			placed[i] = at(r, e)
		}
		return errors.Join(placed...)
	}
	return fmt.Errorf("%s: policy %q: %w", r.Source, r.ID, err)
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

// reads tells whether a policy reads the context, and the arguments in it. A
// use of the whole context, which could be taken apart later, counts as both.
func reads(p *ast.Policy) (anything, argument bool) {
	for _, condition := range p.Conditions {
		ast.Inspect(ast.NewNode(condition.Body), func(n ast.IsNode) bool {
			if variable, attribute, ok := access(n); ok && variable == "context" {
				anything = true
				argument = argument || attribute == arguments
				return false
			}
			if v, ok := n.(ast.NodeTypeVariable); ok && v.Name == "context" {
				anything, argument = true, true
			}
			return true
		})
	}
	return anything, argument
}

// readsObject tells whether the verdict of a policy can differ between two
// objects of one type.
func readsObject(p *ast.Policy) (it bool) {
	switch p.Resource.(type) {
	case ast.ScopeTypeAll, ast.ScopeTypeIs:
	default:
		return true
	}
	for _, condition := range p.Conditions {
		ast.Inspect(ast.NewNode(condition.Body), func(n ast.IsNode) bool {
			v, ok := n.(ast.NodeTypeVariable)
			it = it || ok && v.Name == "resource"
			return !it
		})
	}
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
		ast.Inspect(ast.NewNode(condition.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				switch v := v.Value.(type) {
				case cedar.EntityUID:
					literal(v)
				case cedar.Set:
					for element := range v.All() {
						if uid, ok := element.(cedar.EntityUID); ok {
							literal(uid)
						}
					}
				}
			}
			return true
		})
	}
}
