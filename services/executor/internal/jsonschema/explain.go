package jsonschema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// explainer looks for what is wrong with a value that does not satisfy a
// schema. It decides nothing: where it finds less than the validator, or more,
// only the words are worse.
type explainer struct {
	wrong []*executorv1.Violation
	left  int
}

func (e *explainer) say(pointer, message string) {
	if len(e.wrong) < maxViolations {
		e.wrong = append(e.wrong, violation(pointer, message))
	}
}

// try returns what is wrong with v by n, apart from all else.
func (e *explainer) try(n *node, v *value, pointer string) []*executorv1.Violation {
	inner := explainer{left: e.left}
	inner.explain(n, v, pointer)
	e.left = inner.left
	return inner.wrong
}

func (e *explainer) explain(n *node, v *value, pointer string) {
	if e.left -= 1 + v.size/64; e.left < 0 || len(e.wrong) == maxViolations {
		return
	}
	if n.raw.object == nil {
		if n.never {
			e.say(pointer, "must not be given")
		}
		return
	}
	if n.ref != nil {
		e.explain(n.ref, v, pointer)
	}
	if !e.kind(n, v, pointer) {
		return // all else would only repeat that
	}
	e.choice(n, v, pointer)
	switch p := v.plain.(type) {
	case string:
		e.text(n, p, pointer)
	case []any:
		e.elements(n, v, pointer)
	case map[string]any:
		e.members(n, v, pointer)
	default:
		if f, ok := number(v.plain); ok {
			e.size(n, f, pointer)
		}
	}
	e.logic(n, v, pointer)
}

var articles = map[string]string{
	"null": "null", "boolean": "a boolean", "integer": "an integer", "number": "a number",
	"string": "a string", "array": "an array", "object": "an object",
}

// kind looks at the type. It reports whether that is right.
func (e *explainer) kind(n *node, v *value, pointer string) bool {
	t := n.raw.object["type"]
	if t == nil {
		return true
	}
	var want []string
	for _, one := range append([]*value{t}, t.array...) {
		if s, ok := one.plain.(string); ok {
			want = append(want, s)
		}
	}
	got := kindOf(v)
	if slices.Contains(want, got) || got == "integer" && slices.Contains(want, "number") {
		return true
	}
	var words []string
	for _, w := range want {
		if a := articles[w]; a != "" {
			words = append(words, a)
		}
	}
	text := "must be " + strings.Join(words, " or ") + ", not " + articles[got]
	if got == "null" {
		text += "; leave it out if it is not wanted"
	}
	e.say(pointer, text)
	return false
}

func kindOf(v *value) string {
	switch p := v.plain.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case int64, uint64:
		return "integer"
	case float64:
		if p == math.Trunc(p) {
			return "integer"
		}
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

func (e *explainer) choice(n *node, v *value, pointer string) {
	if c := n.raw.object["const"]; c != nil && !jsonschema.Equal(c.plain, v.plain) {
		e.say(pointer, "must be "+literal(c.plain))
	}
	all := n.raw.object["enum"]
	if all == nil {
		return
	}
	var words []string
	for _, one := range all.array {
		if jsonschema.Equal(one.plain, v.plain) {
			return
		}
		if len(words) < 32 {
			words = append(words, literal(one.plain))
		}
	}
	e.say(pointer, "must be one of "+strings.Join(words, ", "))
}

// literal writes a value of the schema, never one of the caller's.
func literal(v any) string {
	raw, err := json.Marshal(v)
	if err != nil || len(raw) > 128 {
		return "what the schema says"
	}
	return string(raw)
}

func (e *explainer) text(n *node, s, pointer string) {
	length := float64(utf8.RuneCountInString(s))
	if low, ok := n.number("minLength"); ok && length < low {
		e.say(pointer, "must be at least "+plain(low)+" characters")
	}
	if high, ok := n.number("maxLength"); ok && length > high {
		e.say(pointer, "must be at most "+plain(high)+" characters")
	}
	if n.pattern != nil && !n.pattern.MatchString(s) {
		e.say(pointer, "must match the pattern "+strconv.Quote(n.pattern.String()))
	}
}

func (e *explainer) size(n *node, f float64, pointer string) {
	for _, rule := range []struct {
		name, words string
		broken      func(limit float64) bool
	}{
		{"minimum", "must be at least ", func(l float64) bool { return f < l }},
		{"maximum", "must be at most ", func(l float64) bool { return f > l }},
		{"exclusiveMinimum", "must be greater than ", func(l float64) bool { return f <= l }},
		{"exclusiveMaximum", "must be less than ", func(l float64) bool { return f >= l }},
		{"multipleOf", "must be a multiple of ", func(l float64) bool { _, rest := math.Modf(f / l); return rest != 0 }},
	} {
		if limit, ok := n.number(rule.name); ok && rule.broken(limit) {
			e.say(pointer, rule.words+plain(limit))
		}
	}
}

func plain(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func (e *explainer) elements(n *node, v *value, pointer string) {
	count := float64(len(v.array))
	if low, ok := n.number("minItems"); ok && count < low {
		e.say(pointer, "must have at least "+plain(low)+" items")
	}
	if high, ok := n.number("maxItems"); ok && count > high {
		e.say(pointer, "must have at most "+plain(high)+" items")
	}
	first, rest := n.lists["prefixItems"], n.single["items"]
	if tuple := n.lists["items"]; tuple != nil {
		first, rest = tuple, n.single["additionalItems"]
	}
	for i, element := range v.array {
		here := pointer + "/" + strconv.Itoa(i)
		switch {
		case i < len(first):
			e.explain(first[i], element, here)
		case rest != nil:
			e.explain(rest, element, here)
		}
	}
	if unique, ok := n.raw.object["uniqueItems"]; ok && unique.plain == true && e.twice(v) {
		e.say(pointer, "must not have the same item twice")
	}
	if c := n.single["contains"]; c != nil {
		e.contains(n, c, v, pointer)
	}
}

func (e *explainer) contains(n, c *node, v *value, pointer string) {
	count, low := 0.0, 1.0
	for _, element := range v.array {
		if len(e.try(c, element, "")) == 0 {
			count++
		}
	}
	if l, ok := n.number("minContains"); ok {
		low = l
	}
	if high, ok := n.number("maxContains"); count < low || ok && count > high {
		e.say(pointer, "does not have the items that it must contain")
	}
}

func (e *explainer) twice(v *value) bool {
	seen := make(map[string]bool)
	for _, element := range v.array {
		raw, err := json.Marshal(element.plain)
		if err != nil || seen[string(raw)] {
			return err == nil
		}
		seen[string(raw)] = true
	}
	return false
}

func (e *explainer) members(n *node, v *value, pointer string) {
	if r := n.raw.object["required"]; r != nil {
		e.required(v, r, pointer)
	}
	for _, name := range v.names {
		e.member(n, v.object[name], name, pointer+"/"+escape(name))
	}
	count := float64(len(v.names))
	if low, ok := n.number("minProperties"); ok && count < low {
		e.say(pointer, "must have at least "+plain(low)+" members")
	}
	if high, ok := n.number("maxProperties"); ok && count > high {
		e.say(pointer, "must have at most "+plain(high)+" members")
	}
	for _, keyword := range []string{"dependentRequired", "dependencies"} {
		m := n.raw.object[keyword]
		if m == nil {
			continue
		}
		for _, name := range m.names {
			if v.object[name] != nil {
				e.required(v, m.object[name], pointer)
			}
		}
	}
}

func (e *explainer) required(v, names *value, pointer string) {
	for _, name := range names.array {
		if s, ok := name.plain.(string); ok && v.object[s] == nil {
			e.say(pointer+"/"+escape(s), "is required")
		}
	}
}

func (e *explainer) member(n *node, m *value, name, here string) {
	if names := n.single["propertyNames"]; names != nil && len(e.try(names, &value{plain: name, size: len(name)}, "")) > 0 {
		e.say(here, "has a name that is not allowed")
	}
	known := false
	if own := n.maps["properties"][name]; own != nil {
		known = true
		e.explain(own, m, here)
	}
	for _, p := range slices.Sorted(maps.Keys(n.patterns)) {
		if n.patterns[p].MatchString(name) {
			known = true
			e.explain(n.maps["patternProperties"][p], m, here)
		}
	}
	other := n.single["additionalProperties"]
	switch {
	case known || other == nil:
	case other.never && len(n.patterns) > 0:
		e.say(here, "is not known")
	case other.never && len(n.maps["properties"]) == 0:
		e.say(here, "is not known; nothing may be given here")
	case other.never:
		e.say(here, "is not known; known are: "+strings.Join(slices.Sorted(maps.Keys(n.maps["properties"])), ", "))
	default:
		e.explain(other, m, here)
	}
}

// logic looks at what is put together of other schemas.
func (e *explainer) logic(n *node, v *value, pointer string) {
	for _, c := range n.lists["allOf"] {
		e.explain(c, v, pointer)
	}
	if all := n.lists["anyOf"]; all != nil {
		e.oneOf(all, v, pointer, len(all))
	}
	if all := n.lists["oneOf"]; all != nil {
		e.oneOf(all, v, pointer, 1)
	}
	if c := n.single["not"]; c != nil && len(e.try(c, v, pointer)) == 0 {
		e.say(pointer, "is of a form that the schema rules out")
	}
	if c := n.single["if"]; c != nil {
		next := n.single["then"]
		if len(e.try(c, v, pointer)) > 0 {
			next = n.single["else"]
		}
		if next != nil {
			e.explain(next, v, pointer)
		}
	}
	for _, keyword := range []string{"dependentSchemas", "dependencies"} {
		for _, name := range slices.Sorted(maps.Keys(n.maps[keyword])) {
			if v.object[name] != nil {
				e.explain(n.maps[keyword][name], v, pointer)
			}
		}
	}
}

// oneOf looks at alternatives of which at least one, and at most most, must
// fit. If only one is of the value's type, that is the one that was meant.
func (e *explainer) oneOf(all []*node, v *value, pointer string, most int) {
	fit := 0
	var meant [][]*executorv1.Violation
	for _, c := range all {
		bad := e.try(c, v, pointer)
		if len(bad) == 0 {
			fit++
		} else if ofKind(c, v) {
			meant = append(meant, bad)
		}
	}
	switch {
	case fit > most:
		e.say(pointer, fmt.Sprintf("fits %d of the alternatives in the schema and must fit one", fit))
	case fit > 0:
	case len(meant) == 1:
		e.wrong = append(e.wrong, meant[0][:min(len(meant[0]), maxViolations-len(e.wrong))]...)
	default:
		e.say(pointer, "fits none of the alternatives in the schema")
	}
}

// ofKind reports whether a value has the type that a schema wants.
func ofKind(n *node, v *value) bool {
	for hops := 0; n.ref != nil && hops < 16; hops++ {
		n = n.ref
	}
	if n.raw.object == nil {
		return false
	}
	quiet := explainer{left: 1}
	return quiet.kind(n, v, "")
}
