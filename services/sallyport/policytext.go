package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// blanks are what may stand between the words of a policy.
const blanks = " \t\r\n\f\v"

// statement is one policy of a file, for showing it to people. What it means is
// known by the auth service alone.
type statement struct {
	id     string // of its @id; "" if it has none
	effect string // "permit" or "forbid"; "" where neither is written
	source string // "default.cedar:12", as decisions have it
	text   string // from its first annotation to its semicolon
	bare   string // the text without comments and line breaks, to compare
	notes  map[string]string
}

// statements cuts files into their policies. It knows Cedar's comments, strings
// and semicolons and no more: a text that is no Cedar gives something.
func statements(files []*authv1.PolicyFile) (all []statement) {
	for _, f := range files {
		c := cutter{rest: string(f.GetText()), line: 1}
		for {
			s, ok := c.next()
			if !ok {
				break
			}
			s.source = fmt.Sprintf("%s:%s", f.GetName(), s.source)
			all = append(all, s)
		}
	}
	return all
}

// find returns the policy with an id, or nil.
func find(all []statement, id string) *statement {
	if i := slices.IndexFunc(all, func(s statement) bool { return s.id == id }); i >= 0 && id != "" {
		return &all[i]
	}
	return nil
}

// cutter goes through a file.
type cutter struct {
	rest string
	line int
}

// next returns the next policy, its source being its line alone.
func (c *cutter) next() (s statement, ok bool) {
	for c.rest != "" && c.blank() != "" {
	}
	if c.rest == "" {
		return s, false
	}
	begin, line := c.rest, c.line
	s.notes = make(map[string]string)
	var tokens []string
	for c.rest != "" {
		if c.blank() != "" {
			continue
		}
		token := c.token()
		tokens = append(tokens, token)
		if token == ";" {
			break
		}
	}
	s.text = strings.TrimRight(begin[:len(begin)-len(c.rest)], blanks)
	s.source = fmt.Sprint(line)
	s.bare = strings.Join(tokens, " ")
	s.effect = annotations(tokens, s.notes)
	s.id = s.notes["id"]
	return s, true
}

// annotations reads what stands before the effect, which it returns.
func annotations(tokens []string, into map[string]string) (effect string) {
	for i := 0; i < len(tokens); i++ {
		switch {
		case tokens[i] == "permit" || tokens[i] == "forbid":
			return tokens[i]
		case tokens[i] != "@" || i+1 == len(tokens):
			return ""
		}
		i++
		name, text := tokens[i], ""
		if i+3 < len(tokens) && tokens[i+1] == "(" && tokens[i+3] == ")" {
			text = unquote(tokens[i+2])
			i += 3
		}
		into[name] = text
	}
	return ""
}

// blank takes white space or a comment from the rest.
func (c *cutter) blank() string {
	n := len(c.rest) - len(strings.TrimLeft(c.rest, blanks))
	if n == 0 && strings.HasPrefix(c.rest, "//") {
		if n = strings.IndexByte(c.rest, '\n'); n < 0 {
			n = len(c.rest)
		}
	}
	return c.take(n)
}

// token takes a string, a word or one other character from the rest, which is
// not empty.
func (c *cutter) token() string {
	if c.rest[0] == '"' {
		for i := 1; i < len(c.rest); i++ {
			switch c.rest[i] {
			case '\\':
				i++
			case '"':
				return c.take(i + 1)
			}
		}
		return c.take(len(c.rest))
	}
	n := 0
	for n < len(c.rest) && (c.rest[n] == '_' || c.rest[n] >= 0x80 || c.rest[n]|0x20 >= 'a' && c.rest[n]|0x20 <= 'z' || c.rest[n] >= '0' && c.rest[n] <= '9') {
		n++
	}
	return c.take(max(n, 1))
}

func (c *cutter) take(n int) string {
	taken := c.rest[:n]
	c.rest = c.rest[n:]
	c.line += strings.Count(taken, "\n")
	return taken
}

// unquote reads the common escapes of a string; others stay as they are written.
func unquote(token string) string {
	if len(token) < 2 || token[0] != '"' || token[len(token)-1] != '"' {
		return token
	}
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\'`, `'`, `\n`, "\n", `\t`, "\t", `\r`, "\r").Replace(token[1 : len(token)-1])
}

// policyChange is what another set does to a policy.
type policyChange struct {
	what     string // "added", "removed" or "changed"
	id       string
	old, now *statement // nil where there is none
}

// policyChanges compares two sets by the ids of their policies, sorted by these.
// Comments, order and the files in which policies are do not count.
func policyChanges(old, now []*authv1.PolicyFile) (changes []policyChange) {
	ids := make(map[string]*policyChange)
	for i, set := range [][]statement{statements(old), statements(now)} {
		for _, s := range set {
			id := s.id
			if id == "" {
				id = s.source
			}
			if ids[id] == nil {
				ids[id] = &policyChange{id: id}
			}
			if i == 0 {
				ids[id].old = &s
			} else {
				ids[id].now = &s
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		c := ids[id]
		switch {
		case c.old == nil:
			c.what = "added"
		case c.now == nil:
			c.what = "removed"
		case c.old.bare != c.now.bare:
			c.what = "changed"
		default:
			continue
		}
		changes = append(changes, *c)
	}
	return changes
}
