package jsonschema

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
)

// Bounds on what a schema may hold.
const (
	maxSchemas  = 5000  // subschemas of one schema
	maxFan      = 5000  // subschemas that apply to one and the same value
	maxPattern  = 2048  // bytes of one regular expression
	maxProgram  = 10000 // instructions of one regular expression
	maxPatterns = 200   // regular expressions of one schema
)

// node is one subschema. The tree of nodes is ours beside the validator's: it
// is what a schema's cost is judged by before the validator sees a value, and
// what tells people where a value is wrong.
type node struct {
	path  string
	never bool // the schema false
	raw   *value
	ref   *node

	same   []*node // apply to the same value, ref aside
	single map[string]*node
	lists  map[string][]*node
	maps   map[string]map[string]*node

	pattern  *regexp.Regexp
	patterns map[string]*regexp.Regexp // of patternProperties
	weight   int                       // of one look at a value
	program  int                       // instructions of its regular expressions
}

// Where subschemas are in a schema.
var (
	sameSingle = []string{"not", "if", "then", "else"}
	downSingle = []string{
		"additionalProperties", "propertyNames", "unevaluatedProperties", "items", "additionalItems",
		"contains", "unevaluatedItems", "contentSchema",
	}
	sameLists = []string{"allOf", "anyOf", "oneOf"}
	downLists = []string{"prefixItems", "items"}
	sameMaps  = []string{"dependentSchemas", "dependencies"}
	downMaps  = []string{"properties", "patternProperties", "$defs", "definitions"}
)

// keywords are all that mean something to the validator. It reads names without
// regard to case, so a name that differs from one of these in case alone would
// mean one thing to it and another to everybody else.
var keywords = func() map[string]string {
	m := make(map[string]string)
	for _, all := range [][]string{sameSingle, downSingle, sameLists, downLists, sameMaps, downMaps, {
		"$id", "$schema", "$ref", "$comment", "$anchor", "$dynamicAnchor", "$dynamicRef", "$vocabulary", "title", "description",
		"default", "deprecated", "readOnly", "writeOnly", "examples", "type", "enum", "const", "multipleOf", "minimum",
		"maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern", "minItems", "maxItems",
		"uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties", "required", "dependentRequired",
		"contentEncoding", "contentMediaType", "format",
	}} {
		for _, k := range all {
			m[strings.ToLower(k)] = k
		}
	}
	return m
}()

// builder makes nodes of a document.
type builder struct {
	id       string // of the root
	dialect  string
	byPath   map[string]*node
	byAnchor map[string]*node
	refs     map[*node]string
	patterns int
}

func (b *builder) node(path string, raw *value) (*node, error) {
	if len(b.byPath) == maxSchemas {
		return nil, fmt.Errorf("more than %d subschemas", maxSchemas)
	}
	n := &node{path: path, raw: raw}
	b.byPath[path] = n
	if verdict, ok := raw.plain.(bool); ok {
		n.never = !verdict
		return n, nil
	}
	if raw.object == nil {
		return nil, fmt.Errorf("%s: must be an object or a boolean", at(path))
	}
	if err := b.words(n); err != nil {
		return nil, err
	}
	if err := b.children(n); err != nil {
		return nil, err
	}
	return n, b.measure(n)
}

// words checks the keywords that are about the schema itself.
func (b *builder) words(n *node) error {
	for _, name := range n.raw.names {
		if known := keywords[strings.ToLower(name)]; known != "" && known != name {
			return fmt.Errorf("%s: %q is written %q", at(n.path), name, known)
		}
	}
	for _, name := range []string{"$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary"} {
		if n.raw.object[name] != nil {
			return fmt.Errorf("%s: %s is not supported", at(n.path), name)
		}
	}
	for _, name := range []string{"$ref", "$id", "$schema", "$anchor", "pattern"} {
		if v := n.raw.object[name]; v != nil {
			if _, ok := v.plain.(string); !ok {
				return fmt.Errorf("%s/%s: must be a string", at(n.path), name)
			}
		}
	}
	if n.path != "" {
		if id := n.text("$id"); id != "" {
			return fmt.Errorf("%s: $id is supported at the root only", at(n.path))
		}
		if d := n.text("$schema"); d != "" && d != b.dialect {
			return fmt.Errorf("%s: a dialect other than the root's", at(n.path))
		}
	}
	if ref := n.text("$ref"); ref != "" {
		b.refs[n] = ref
	}
	if a := n.text("$anchor"); a != "" {
		if b.byAnchor[a] != nil {
			return fmt.Errorf("%s: the anchor %q is there twice", at(n.path), a)
		}
		b.byAnchor[a] = n
	}
	if m := n.raw.object["multipleOf"]; m != nil {
		if f, ok := number(m.plain); !ok || f <= 0 {
			return fmt.Errorf("%s: multipleOf must be positive", at(n.path))
		}
	}
	return nil
}

func (b *builder) children(n *node) error {
	n.single, n.lists, n.maps = make(map[string]*node), make(map[string][]*node), make(map[string]map[string]*node)
	for _, group := range []struct {
		names []string
		same  bool
	}{{sameSingle, true}, {downSingle, false}} {
		for _, name := range group.names {
			v := n.raw.object[name]
			if v == nil || name == "items" && isArray(v) {
				continue
			}
			c, err := b.node(n.path+"/"+name, v)
			if err != nil {
				return err
			}
			n.single[name] = c
			if group.same {
				n.same = append(n.same, c)
			}
		}
	}
	for _, group := range []struct {
		names []string
		same  bool
	}{{sameLists, true}, {downLists, false}} {
		for _, name := range group.names {
			v := n.raw.object[name]
			if v == nil || name == "items" && !isArray(v) {
				continue
			}
			if !isArray(v) {
				return fmt.Errorf("%s/%s: must be an array", at(n.path), name)
			}
			for i, e := range v.array {
				c, err := b.node(n.path+"/"+name+"/"+strconv.Itoa(i), e)
				if err != nil {
					return err
				}
				n.lists[name] = append(n.lists[name], c)
				if group.same {
					n.same = append(n.same, c)
				}
			}
		}
	}
	for _, group := range []struct {
		names []string
		same  bool
	}{{sameMaps, true}, {downMaps, false}} {
		for _, name := range group.names {
			v := n.raw.object[name]
			if v == nil {
				continue
			}
			if v.object == nil {
				return fmt.Errorf("%s/%s: must be an object", at(n.path), name)
			}
			n.maps[name] = make(map[string]*node)
			for _, key := range v.names {
				if name == "dependencies" && isArray(v.object[key]) {
					continue
				}
				c, err := b.node(n.path+"/"+name+"/"+escape(key), v.object[key])
				if err != nil {
					return err
				}
				n.maps[name][key] = c
				if group.same {
					n.same = append(n.same, c)
				}
			}
		}
	}
	return nil
}

// measure compiles what a node matches with, and says what a look at a value
// costs.
func (b *builder) measure(n *node) error {
	n.weight = 8 + len(n.raw.object)
	for _, name := range []string{"enum", "required"} {
		if v := n.raw.object[name]; v != nil {
			n.weight += 4 * len(v.array)
		}
	}
	n.weight += len(n.maps["properties"])
	if p := n.text("pattern"); p != "" {
		re, size, err := b.compile(p)
		if err != nil {
			return fmt.Errorf("%s/pattern: %w", at(n.path), err)
		}
		n.pattern, n.program = re, size
	}
	n.patterns = make(map[string]*regexp.Regexp)
	for p := range n.maps["patternProperties"] {
		re, size, err := b.compile(p)
		if err != nil {
			return fmt.Errorf("%s/patternProperties: %w", at(n.path), err)
		}
		n.patterns[p] = re
		n.program += size
	}
	return nil
}

func (b *builder) compile(pattern string) (*regexp.Regexp, int, error) {
	if b.patterns++; b.patterns > maxPatterns {
		return nil, 0, fmt.Errorf("more than %d regular expressions", maxPatterns)
	}
	if len(pattern) > maxPattern {
		return nil, 0, fmt.Errorf("a regular expression of more than %d bytes", maxPattern)
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, 0, fmt.Errorf("regular expression: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, 0, fmt.Errorf("regular expression: %w", err)
	}
	if len(program.Inst) > maxProgram {
		return nil, 0, errors.New("a regular expression that repeats too much")
	}
	re, err := regexp.Compile(pattern)
	return re, len(program.Inst), err
}

// link sets what the references refer to. They must stay within the schema:
// nothing is ever loaded.
func (b *builder) link() error {
	for n, ref := range b.refs {
		base, fragment, _ := strings.Cut(ref, "#")
		if base != "" && base != strings.TrimSuffix(b.id, "#") {
			return fmt.Errorf("%s: $ref leads out of the schema; nothing is loaded", at(n.path))
		}
		fragment, err := url.PathUnescape(fragment)
		if err != nil {
			return fmt.Errorf("%s: $ref: %w", at(n.path), err)
		}
		switch {
		case fragment == "" || fragment[0] == '/':
			n.ref = b.byPath[canonical(fragment)]
		default:
			n.ref = b.byAnchor[fragment]
		}
		if n.ref == nil {
			return fmt.Errorf("%s: $ref to what is not there", at(n.path))
		}
	}
	return nil
}

// bound refuses a schema that would apply itself to one value without end, or
// too many subschemas to one value.
func (b *builder) bound() error {
	fans := make(map[*node]int) // 0 while it is being counted
	var fan func(*node) (int, error)
	fan = func(n *node) (int, error) {
		if f, ok := fans[n]; ok {
			if f == 0 {
				return 0, fmt.Errorf("%s: refers to itself without end", at(n.path))
			}
			return f, nil
		}
		fans[n] = 0
		sum := 1
		next := n.same
		if n.ref != nil {
			next = append(next[:len(next):len(next)], n.ref)
		}
		for _, c := range next {
			f, err := fan(c)
			if err != nil {
				return 0, err
			}
			if sum += f; sum > maxFan {
				return 0, fmt.Errorf("%s: more than %d subschemas for one value", at(n.path), maxFan)
			}
		}
		fans[n] = sum
		return sum, nil
	}
	for _, n := range b.byPath {
		if _, err := fan(n); err != nil {
			return err
		}
	}
	return nil
}

// text returns a keyword's value if it is a string.
func (n *node) text(name string) string {
	if v := n.raw.object[name]; v != nil {
		s, _ := v.plain.(string)
		return s
	}
	return ""
}

// number returns a keyword's value if it is a number.
func (n *node) number(name string) (float64, bool) {
	if v := n.raw.object[name]; v != nil {
		return number(v.plain)
	}
	return 0, false
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

func isArray(v *value) bool {
	_, ok := v.plain.([]any)
	return ok
}

// at names a place in a schema for people.
func at(path string) string {
	if path == "" {
		return "root"
	}
	return shorten(path)
}

var escaper, unescaper = strings.NewReplacer("~", "~0", "/", "~1"), strings.NewReplacer("~1", "/", "~0", "~")

func escape(token string) string { return escaper.Replace(token) }

// canonical writes a JSON Pointer as nodes are named by.
func canonical(pointer string) string {
	if pointer == "" {
		return ""
	}
	tokens := strings.Split(pointer[1:], "/")
	for i, t := range tokens {
		tokens[i] = escape(unescaper.Replace(t))
	}
	return "/" + strings.Join(tokens, "/")
}
