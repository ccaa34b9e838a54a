package document

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// maxChain is how many references in a row may lead to one another.
const maxChain = 8

var errChain = fmt.Errorf("more than %d references that lead to references, or such that lead to themselves", maxChain)

// unchained returns an error where references lead to references and so on. Few
// documents have two in a row; the library takes a time for such chains that grows
// with the cube of their length, twelve seconds for a thousand.
func unchained(raw []byte) error {
	var root any
	if err := json.Unmarshal(raw, &root); err != nil {
		return err
	}
	c := &chains{root: root, known: map[string]end{}}
	return c.walk(root)
}

type chains struct {
	root  any
	known map[string]end // of references that were followed
}

// end is what a reference leads to, and how many more there are on the way.
type end struct {
	v      any
	length int
}

func (c *chains) walk(v any) error {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := c.walk(e); err != nil {
				return err
			}
		}
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			if _, _, err := c.follow(ref, 1); err != nil {
				return fmt.Errorf("%.100s: %w", ref, err)
			}
		}
		for _, e := range v {
			if err := c.walk(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow returns what a reference leads to in the end, nil where that is nothing, and
// how many references there were on the way.
func (c *chains) follow(ref string, level int) (v any, length int, err error) {
	pointer, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return nil, 0, nil // elsewhere, which the library refuses
	}
	e, known := c.known[ref]
	if level+e.length > maxChain {
		return nil, 0, errChain
	}
	if known {
		return e.v, e.length, nil
	}
	if p, err := url.PathUnescape(pointer); err == nil {
		pointer = p
	}
	v, longest := c.root, 0
	// through replaces a reference by what it leads to.
	through := func() error {
		m, _ := v.(map[string]any)
		next, ok := m["$ref"].(string)
		if !ok {
			return nil
		}
		found, n, err := c.follow(next, level+1)
		v, longest = found, max(longest, n+1)
		return err
	}
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		next, ok := child(v, token)
		if !ok {
			if err := through(); err != nil {
				return nil, 0, err
			}
			next, _ = child(v, token)
		}
		v = next
	}
	err = through()
	c.known[ref] = end{v, longest}
	return v, longest, err
}

func child(v any, token string) (any, bool) {
	switch v := v.(type) {
	case map[string]any:
		c, ok := v[token]
		return c, ok
	case []any:
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(v) {
			return v[i], true
		}
	}
	return nil, false
}
