package policy

import (
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// The attributes of the principal that are on record only where a policy reads them,
// as bits.
const (
	readsOwner attributes = readsSuspects << (iota + 1)
	readsName
	readsScopes

	readsPerson = readsOwner | readsName | readsScopes
)

// person is in front of the names that these have among inputs.
const person = "principal."

// personNamed is attributeNamed of the principal.
func personNamed(name string) attributes {
	switch name {
	case "owner":
		return readsOwner
	case "name":
		return readsName
	case "scopes":
		return readsScopes
	}
	return 0
}

// isPerson reports whether a node is the principal, or one that is named and may be
// him.
func isPerson(n ast.IsNode) bool {
	switch n := n.(type) {
	case ast.NodeTypeVariable:
		return n.Name == "principal"
	case ast.NodeValue:
		uid, ok := n.Value.(cedar.EntityUID)
		return ok && uid.Type == typePrincipal
	}
	return false
}

// personal tells which attribute of a principal a node reads or tests.
func personal(n ast.IsNode) (attribute string, ok bool) {
	switch n := n.(type) {
	case ast.NodeTypeAccess:
		return string(n.Value), isPerson(n.Arg)
	case ast.NodeTypeHas:
		return string(n.Value), isPerson(n.Arg)
	}
	return "", false
}

// compared returns the operands of which a node compares only which entity they are,
// or whether it belongs to another.
func compared(n ast.IsNode) []ast.IsNode {
	switch n := n.(type) {
	case ast.NodeTypeEquals:
		return []ast.IsNode{n.Left, n.Right}
	case ast.NodeTypeNotEquals:
		return []ast.IsNode{n.Left, n.Right}
	case ast.NodeTypeIn:
		return []ast.IsNode{n.Left, n.Right}
	case ast.NodeTypeIs:
		return []ast.IsNode{n.Left}
	case ast.NodeTypeIsIn:
		return []ast.IsNode{n.Left, n.Entity}
	case ast.NodeTypeSet:
		return n.Elements
	case ast.NodeTypeContains:
		return []ast.IsNode{n.Right}
	}
	return nil
}

// Cut is at the end of a list on record that has lost some for want of room.
const Cut = "…"

// text returns an attribute of the principal that is a string.
func (s *Subject) text(name cedar.String) string {
	value, _ := s.entity.Attributes.Get(name)
	text, _ := value.(cedar.String)
	return string(text)
}

// scopes returns the scopes of the principal's token, sorted, with blanks between
// them.
func (s *Subject) scopes() string {
	value, _ := s.entity.Attributes.Get("scopes")
	set, _ := value.(cedar.Set)
	var all []string
	for scope := range set.All() {
		text, _ := scope.(cedar.String)
		all = append(all, string(text))
	}
	slices.Sort(all)
	list := strings.Join(all, " ")
	if len(list) <= maxInput {
		return list
	}
	list = list[:maxInput-len(Cut)]
	return list[:strings.LastIndexByte(list, ' ')+1] + Cut
}
