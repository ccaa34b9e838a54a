// Package policy reads Cedar policies and decides by them.
//
// It is Cedar with five additions. Policies are checked against a schema when
// they are loaded, so that a misspelt attribute is found at once and not at
// night. A forbid that cannot be evaluated forbids, where plain Cedar would
// ignore it: when in doubt refuse. A URI that climbs (see [Climbs]) is refused
// whatever policies say. A forbid can say by @approval that somebody may lift it
// for one call. And the set knows which policies read the arguments of a call or
// the number of steps before it, so that nobody has to send them when no policy
// cares.
package policy

import (
	"fmt"
	"iter"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Rule is one policy.
type Rule struct {
	// ID is the policy's @id.
	ID string
	// Reason is the policy's @reason, a sentence for the caller; may be empty
	// on a permit.
	Reason string
	// Source is where the policy is written, "default.cedar:12".
	Source string
	// Approval is who can lift the policy for one call, by its @approval.
	Approval Approval

	file        string
	line        int
	permits     bool
	position    int        // in the set
	reads       attributes // of the context
	person      attributes // that it reads of the principal
	needs       Needs
	arguments   []string // that it reads, by their paths
	readsObject bool     // its verdict depends on which object of a type it is about
	tree        *ast.Policy
	compiled    *cedar.Policy
	parts       []part
}

// Set is a set of policies that belong together. It never changes, so that
// another one can take its place between two decisions.
type Set struct {
	rules    rules // as written: by file, by line
	roles    []string
	version  string
	files    []File
	warnings []Problem
}

// Files returns what the set was made of.
func (s *Set) Files() []File { return slices.Clone(s.files) }

// Warnings returns what is worth a look, and did not keep the set from being
// loaded.
func (s *Set) Warnings() []Problem { return slices.Clone(s.warnings) }

// Annotations returns the annotations of the policy, the first ones if there are
// more than most.
func (r *Rule) Annotations(most int) map[string]string {
	all := make(map[string]string)
	if r.tree == nil { // it is not in any file
		return all
	}
	for _, note := range r.tree.Annotations[:min(len(r.tree.Annotations), most)] {
		all[string(note.Key)] = string(note.Value)
	}
	return all
}

// Version returns a hash of the set, the same wherever the same files are read.
func (s *Set) Version() string { return s.version }

// Rules returns all policies in the order in which they are written.
func (s *Set) Rules() []*Rule { return slices.Clone([]*Rule(s.rules)) }

// Roles returns the roles that policies name, sorted.
func (s *Set) Roles() []string { return slices.Clone(s.roles) }

// KnowsRole reports whether a policy names the role, or no policy names any.
func (s *Set) KnowsRole(role string) bool {
	return len(s.roles) == 0 || slices.Contains(s.roles, role)
}

// rules lets Cedar evaluate a part of a set.
type rules []*Rule

// All implements [cedar.PolicyIterator].
func (rs rules) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, r := range rs {
			if !yield(cedar.PolicyID(r.ID), r.compiled) {
				return
			}
		}
	}
}

func (rs rules) find(id cedar.PolicyID) *Rule {
	for _, r := range rs {
		if r.ID == string(id) {
			return r
		}
	}
	return nil
}

// anyPermits reports whether a permit is among them.
func (rs rules) anyPermits() bool {
	return slices.ContainsFunc(rs, func(r *Rule) bool { return r.permits })
}

// source tells where a policy is.
func source(p cedar.Position) string { return fmt.Sprintf("%s:%d", p.Filename, p.Line) }
