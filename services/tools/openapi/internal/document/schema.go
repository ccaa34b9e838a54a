package document

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
)

// Bounds on the schemas of one operation. Those of the executor are a little wider.
const (
	maxLevels    = 24   // of schemas in schemas
	maxInlined   = 500  // subschemas where what is referred to is written out
	maxSchemas   = 4000 // subschemas
	maxPatterns  = 100
	maxPattern   = 1024 // bytes
	maxNote      = 4096 // characters of a description; a longer one is left out
	maxNoteTitle = 256
)

// way is where a schema's values go: what is read-only is not in a request, and
// what is write-only not in an answer.
type way int

const (
	inbound  way = iota // to the API
	outbound            // from it
)

var (
	errCycle   = errors.New("refers to itself")
	errLarge   = fmt.Errorf("more than %d subschemas", maxSchemas)
	errLevels  = fmt.Errorf("schemas in schemas deeper than %d levels", maxLevels)
	errNowhere = errors.New("a reference that leads nowhere")
)

// convert writes OpenAPI schemas as one JSON Schema 2020-12: build is given the
// converter and returns the root. Models read schemas best when nothing in them
// refers elsewhere, so that references are written out if that is small; else each
// schema is there once, among $defs.
func convert(to way, build func(*converter) (map[string]any, error)) (map[string]any, error) {
	c := &converter{way: to, open: map[*openapi3.Schema]bool{}}
	root, err := build(c)
	if err == nil || !errors.Is(err, errCycle) && !errors.Is(err, errLarge) && !errors.Is(err, errLevels) {
		return root, err
	}
	c = &converter{way: to, shared: true, names: map[*openapi3.Schema]string{}, defs: map[string]any{}}
	if root, err = build(c); err != nil {
		return nil, err
	}
	if len(c.defs) > 0 {
		root["$defs"] = c.defs
	}
	return root, nil
}

// converter makes one JSON Schema.
type converter struct {
	way      way
	shared   bool
	count    int
	patterns int
	open     map[*openapi3.Schema]bool   // being written out
	names    map[*openapi3.Schema]string // in defs
	defs     map[string]any
}

// schema returns what stands for r in the JSON Schema: true where there is none.
func (c *converter) schema(r *openapi3.SchemaRef, level int) (any, error) {
	most := maxInlined
	if c.shared {
		most = maxSchemas
	}
	switch c.count++; {
	case r == nil:
		return true, nil
	case r.Value == nil:
		return nil, errNowhere
	case c.count > most:
		return nil, errLarge
	case level > maxLevels:
		return nil, errLevels
	case r.Ref == "" || !c.shared:
		if c.open[r.Value] {
			return nil, errCycle
		}
		if c.open != nil {
			c.open[r.Value] = true
			defer delete(c.open, r.Value)
		}
		return c.write(r.Value, level)
	}
	name, known := c.names[r.Value]
	if !known {
		name = c.name(r.Ref)
		c.names[r.Value], c.defs[name] = name, true
		s, err := c.write(r.Value, 0)
		if err != nil {
			return nil, err
		}
		c.defs[name] = s
	}
	return map[string]any{"$ref": "#/$defs/" + name}, nil
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// name finds a name among $defs for what a reference refers to.
func (c *converter) name(ref string) string {
	base := strings.Trim(notInName.ReplaceAllString(ref[strings.LastIndexByte(ref, '/')+1:], "_"), "_")
	if base == "" || len(base) > 64 {
		base = "schema"
	}
	name := base
	for n := 2; c.defs[name] != nil; n++ {
		name = base + "_" + strconv.Itoa(n)
	}
	return name
}

// write writes the keywords of a schema that JSON Schema knows, too.
func (c *converter) write(s *openapi3.Schema, level int) (any, error) {
	if s.Always != nil {
		return *s.Always, nil
	}
	if s.DynamicRef != "" {
		return nil, errors.New("$dynamicRef is not supported")
	}
	out, rest := c.plain(s), slices.Clone(s.Type.Slice())
	for _, t := range []string{"array", "boolean", "integer", "null", "number", "object", "string"} {
		rest = slices.DeleteFunc(rest, func(u string) bool { return u == t })
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("type: %.32q is none of JSON Schema", rest[0])
	}
	// In a fixed order: names among $defs are given in the order of use.
	for _, l := range []struct {
		name string
		list openapi3.SchemaRefs
	}{{"oneOf", s.OneOf}, {"anyOf", s.AnyOf}, {"allOf", s.AllOf}, {"prefixItems", s.PrefixItems}} {
		if err := c.list(out, l.name, l.list, level); err != nil {
			return nil, err
		}
	}
	for _, one := range []struct {
		name string
		of   *openapi3.SchemaRef
	}{
		{"not", s.Not},
		{"items", s.Items},
		{"contains", s.Contains},
		{"propertyNames", s.PropertyNames},
		{"if", s.If},
		{"then", s.Then},
		{"else", s.Else},
		{"additionalProperties", s.AdditionalProperties.Schema},
		{"unevaluatedItems", s.UnevaluatedItems.Schema},
		{"unevaluatedProperties", s.UnevaluatedProperties.Schema},
	} {
		if one.of == nil {
			continue
		}
		inner, err := c.schema(one.of, level+1)
		if err != nil {
			return nil, within(one.name, err)
		}
		out[one.name] = inner
	}
	hidden, err := c.properties(out, s, level)
	if err != nil {
		return nil, err
	}
	if err := c.mapping(out, "patternProperties", s.PatternProperties, level); err != nil {
		return nil, err
	}
	if err := c.mapping(out, "dependentSchemas", s.DependentSchemas, level); err != nil {
		return nil, err
	}
	required := slices.DeleteFunc(slices.Clone(s.Required), func(name string) bool { return hidden[name] })
	if len(required) > 0 {
		out["required"] = required
	}
	if s.Nullable {
		return nullable(out), nil
	}
	return out, nil
}

// within says where in a schema an error is. Those that decide how it is written
// stay what they are.
func within(place string, err error) error { return fmt.Errorf("%s: %w", place, err) }

// plain writes the keywords that hold no schemas.
func (c *converter) plain(s *openapi3.Schema) map[string]any {
	out := map[string]any{}
	set := func(name string, has bool, v any) {
		if has {
			out[name] = v
		}
	}
	if s.Type != nil {
		switch types := s.Type.Slice(); len(types) {
		case 0:
		case 1:
			out["type"] = types[0]
		default:
			out["type"] = slices.Clone(types)
		}
	}
	set("title", s.Title != "" && utf8.RuneCountInString(s.Title) <= maxNoteTitle, s.Title)
	set("description", s.Description != "" && utf8.RuneCountInString(s.Description) <= maxNote, s.Description)
	set("format", s.Format != "" && len(s.Format) <= 64, s.Format)
	set("enum", s.Enum != nil, s.Enum)
	set("const", s.Const != nil, s.Const)
	set("default", s.Default != nil, s.Default)
	set("deprecated", s.Deprecated, true)
	set("uniqueItems", s.UniqueItems, true)
	set("multipleOf", s.MultipleOf != nil && *s.MultipleOf > 0, s.MultipleOf)
	set("minLength", s.MinLength > 0, s.MinLength)
	set("maxLength", s.MaxLength != nil, s.MaxLength)
	set("minItems", s.MinItems > 0, s.MinItems)
	set("maxItems", s.MaxItems != nil, s.MaxItems)
	set("minProperties", s.MinProps > 0, s.MinProps)
	set("maxProperties", s.MaxProps != nil, s.MaxProps)
	set("minContains", s.MinContains != nil, s.MinContains)
	set("maxContains", s.MaxContains != nil, s.MaxContains)
	set("dependentRequired", len(s.DependentRequired) > 0, s.DependentRequired)
	set("contentEncoding", s.ContentEncoding != "" && len(s.ContentEncoding) <= 64, s.ContentEncoding)
	set("contentMediaType", s.ContentMediaType != "" && len(s.ContentMediaType) <= 128, s.ContentMediaType)
	set("additionalProperties", s.AdditionalProperties.Has != nil, s.AdditionalProperties.Has)
	set("unevaluatedItems", s.UnevaluatedItems.Has != nil, s.UnevaluatedItems.Has)
	set("unevaluatedProperties", s.UnevaluatedProperties.Has != nil, s.UnevaluatedProperties.Has)
	limit(out, "minimum", "exclusiveMinimum", s.Min, s.ExclusiveMin)
	limit(out, "maximum", "exclusiveMaximum", s.Max, s.ExclusiveMax)
	set("pattern", s.Pattern != "" && c.usable(s.Pattern), s.Pattern)
	return out
}

// limit writes a bound, which 3.0 makes exclusive by a boolean and 3.1 by a number.
func limit(out map[string]any, name, exclusive string, bound *float64, than openapi3.ExclusiveBound) {
	switch {
	case than.Bool != nil && *than.Bool && bound != nil:
		out[exclusive] = bound
		return
	case than.Value != nil:
		out[exclusive] = than.Value
	}
	if bound != nil {
		out[name] = bound
	}
}

// usable reports whether a regular expression can be checked here. One that
// cannot, as those of JavaScript that look ahead, is left to the API.
func (c *converter) usable(pattern string) bool {
	if c.patterns == maxPatterns || len(pattern) > maxPattern {
		return false
	}
	if _, err := regexp.Compile(pattern); err != nil {
		return false
	}
	c.patterns++
	return true
}

func (c *converter) list(out map[string]any, name string, list openapi3.SchemaRefs, level int) error {
	if len(list) == 0 {
		return nil
	}
	all := make([]any, 0, len(list))
	for i, r := range list {
		s, err := c.schema(r, level+1)
		if err != nil {
			return within(name+"/"+strconv.Itoa(i), err)
		}
		all = append(all, s)
	}
	out[name] = all
	return nil
}

func (c *converter) mapping(out map[string]any, name string, all openapi3.Schemas, level int) error {
	if len(all) == 0 {
		return nil
	}
	m := make(map[string]any, len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if name == "patternProperties" && !c.usable(key) {
			return fmt.Errorf("patternProperties: %.64q cannot be checked", key)
		}
		s, err := c.schema(all[key], level+1)
		if err != nil {
			return within(name, err)
		}
		m[key] = s
	}
	out[name] = m
	return nil
}

// properties writes those that are for this way, and returns the others.
func (c *converter) properties(out map[string]any, s *openapi3.Schema, level int) (hidden map[string]bool, err error) {
	hidden = map[string]bool{}
	shown := make(openapi3.Schemas, len(s.Properties))
	for name, r := range s.Properties {
		if r != nil && r.Value != nil && (c.way == inbound && r.Value.ReadOnly || c.way == outbound && r.Value.WriteOnly) {
			hidden[name] = true
			continue
		}
		shown[name] = r
	}
	return hidden, c.mapping(out, "properties", shown, level)
}

// nullable admits null, as 3.0 says it.
func nullable(s map[string]any) any {
	switch t := s["type"].(type) {
	case string:
		s["type"] = []string{t, "null"}
	default:
		return map[string]any{"anyOf": []any{s, map[string]any{"type": "null"}}}
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, nil) {
		s["enum"] = append(slices.Clone(enum), nil)
	}
	return s
}
