// Package template groups messages by their kind: the fixed words a program
// prints, without what changes from line to line.
//
// It works online, in one pass and bounded memory, in the manner of the Drain
// algorithm (He et al., ICWS 2017): words are masked, a tree of fixed depth over
// the number of words and the first of them leads to a few candidates, and a
// message joins the candidate with which it shares enough words, whose other
// words become wildcards. The same messages in the same order give the same
// groups.
package template

import (
	"bytes"
	"strings"
)

// Bounds. A log that has more kinds of messages than this has none: the rest
// falls into one group, so that nothing is lost from the counts.
const (
	maxGroups = 1000
	maxBranch = 64   // groups below one leaf
	maxRecent = 4096 // remembered masked messages
	maxLabel  = 64
)

// longMessage is the number of words from which on the second, too, is taken to
// be fixed. In short ones it is often a name.
const longMessage = 8

// Group is a kind of message.
type Group struct {
	// ID is the number of the group, from zero in the order of appearance.
	ID int

	label string
	words []string
	fixed int // words that were no wildcards at first
}

// Template returns the words of the group, with <*> for what changes.
func (g *Group) Template() string {
	if g.label == "" {
		return strings.Join(g.words, " ")
	}
	return g.label + " " + strings.Join(g.words, " ")
}

// Miner finds the groups. It is not safe for concurrent use; the zero value is
// ready.
type Miner struct {
	groups []*Group
	leaves map[leaf][]*Group
	recent map[string]*Group
	rest   *Group

	masker masker
	key    []byte
}

// leaf is a way through the tree.
type leaf struct {
	label, first, second string
	words                int
}

// Groups returns all groups, by ID.
func (m *Miner) Groups() []*Group { return m.groups }

// Add returns the group of a message, a new one if need be. Messages with
// different labels never share one; the label is not masked.
func (m *Miner) Add(label, message []byte) *Group {
	label = label[:min(len(label), maxLabel)]
	m.masker.mask(message)
	m.key = append(append(append(m.key[:0], label...), 0), m.masker.text...)
	if g, ok := m.recent[string(m.key)]; ok {
		return g
	}
	g := m.find(label)
	if m.recent == nil {
		m.recent = make(map[string]*Group)
	}
	if len(m.recent) >= maxRecent {
		clear(m.recent)
	}
	m.recent[string(m.key)] = g
	return g
}

// find walks the tree for the message in the masker.
func (m *Miner) find(label []byte) *Group {
	at := leaf{label: string(label), words: m.masker.tokens()}
	if at.words > 0 {
		at.first = branch(m.masker.token(0))
	}
	if at.words >= longMessage {
		at.second = branch(m.masker.token(1))
	}
	candidates := m.leaves[at]
	if g := m.best(candidates); g != nil {
		m.merge(g)
		return g
	}
	if len(m.groups) >= maxGroups || len(candidates) >= maxBranch {
		return m.other()
	}
	g := &Group{ID: len(m.groups), label: at.label, words: make([]string, at.words)}
	for i := range g.words {
		g.words[i] = string(m.masker.token(i))
		if g.words[i] != wildcard {
			g.fixed++
		}
	}
	m.groups = append(m.groups, g)
	if m.leaves == nil {
		m.leaves = make(map[leaf][]*Group)
	}
	m.leaves[at] = append(candidates, g)
	return g
}

// branch is the word to descend by: those that change lead one way.
func branch(word []byte) string {
	if bytes.Contains(word, []byte(wildcard)) {
		return wildcard
	}
	return string(word)
}

// best returns the candidate with the most words in common, if they are enough.
// The earlier wins a tie.
func (m *Miner) best(candidates []*Group) *Group {
	var found *Group
	most := -1
	for _, g := range candidates {
		equal := 0
		for i, w := range g.words {
			if w != wildcard && w == string(m.masker.token(i)) {
				equal++
			}
		}
		// Three words in five must be equal, of those that were fixed at
		// first: else a group dissolves, losing word after word.
		if equal*5 >= g.fixed*3 && equal > most {
			found, most = g, equal
		}
	}
	return found
}

// merge puts wildcards where the message in the masker differs from the group.
func (m *Miner) merge(g *Group) {
	for i, w := range g.words {
		if w != wildcard && w != string(m.masker.token(i)) {
			g.words[i] = wildcard
		}
	}
}

// other is the group of what finds no room.
func (m *Miner) other() *Group {
	if m.rest == nil {
		m.rest = &Group{ID: len(m.groups), words: []string{wildcard}}
		m.groups = append(m.groups, m.rest)
	}
	return m.rest
}
