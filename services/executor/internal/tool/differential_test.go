package tool_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

const (
	seed   = 1
	rounds = 1000
)

// What the published schema accepts is what is accepted: random arguments,
// right and wrong, are put to both. Where JSON Schema cannot say what is
// enforced, see wider.
func TestSchemaAndDecodeAgree(t *testing.T) {
	t.Parallel()
	for _, service := range tooltest.Services {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			for name, tl := range tooltest.Tools(t, service) {
				schema := resolve(t, tl.Definition.GetInputSchema())
				g := generator{rand.New(rand.NewPCG(seed, uint64(len(name))))}
				accepted, refused := 0, 0
				for range rounds {
					var root map[string]any
					if err := json.Unmarshal(tl.Definition.GetInputSchema(), &root); err != nil {
						t.Fatal(err)
					}
					arguments, err := json.Marshal(g.value(root, root, 0))
					if err != nil {
						t.Fatal(err)
					}
					if agree(t, tl, schema, arguments) {
						accepted++
					} else {
						refused++
					}
				}
				if accepted < 20 || refused < 20 {
					t.Errorf("%s: %d accepted and %d refused do not show much", name, accepted, refused)
				}
			}
		})
	}
}

func resolve(t testing.TB, raw []byte) *jsonschema.Resolved {
	t.Helper()
	schema := &jsonschema.Schema{}
	if err := json.Unmarshal(raw, schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

func agree(t *testing.T, tl *tool.Tool, schema *jsonschema.Resolved, arguments []byte) bool {
	t.Helper()
	var v any
	if err := json.Unmarshal(arguments, &v); err != nil {
		t.Fatal(err)
	}
	bySchema := schema.Validate(v)
	_, wrong, err := tl.Decode(arguments)
	if err != nil {
		t.Fatalf("Decode(%s): %v", arguments, err)
	}
	switch {
	case bySchema == nil && len(wrong) > 0 && !wider(wrong[0].GetPointer(), wrong[0].GetMessage()):
		t.Errorf("%s: the schema accepts %s, Decode tells %v", tl.Name(), arguments, wrong)
	case bySchema != nil && len(wrong) == 0:
		t.Errorf("%s: Decode accepts %s, the schema says %v", tl.Name(), arguments, bySchema)
	}
	return len(wrong) == 0
}

// wider reports whether JSON Schema has no word for a rule, or only an
// annotation.
func wider(pointer, message string) bool {
	for _, part := range []string{
		"cannot be given together",             // oneof: keywords for it are not liked at the root
		"cannot have it spicy",                 // CEL
		"must be a string of base64",           // contentEncoding is an annotation
		"must be a time in RFC 3339",           // so is format
		"must be a valid UUID",                 // so is format
		"must be a duration in seconds",        // the range
		"must be a string of field names",      // free text
		"must be a 64-bit integer",             // a string of too many digits
		"must be greater than or equal to -5",  // in a string
		"must be at most 6 bytes",              // of base64, exact to the block
		"must be at most 12 bytes", "12 bytes", // of UTF-8, not characters
		"its name must be an integer", // the range
	} {
		if strings.Contains(message, part) {
			return true
		}
	}
	return pointer == "" && strings.Contains(message, "only one of")
}

// generator makes values that are mostly what a schema wants.
type generator struct{ *rand.Rand }

func (g generator) value(schema, root map[string]any, depth int) any {
	if g.IntN(25) == 0 {
		return g.anything(0)
	}
	if ref, ok := schema["$ref"].(string); ok {
		if depth > 4 {
			return map[string]any{"text": "end"}
		}
		defs := root["$defs"].(map[string]any)
		return g.value(defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), root, depth+1)
	}
	if either, ok := schema["anyOf"].([]any); ok {
		return g.value(either[g.IntN(len(either))].(map[string]any), root, depth)
	}
	if c, ok := schema["const"]; ok {
		return c
	}
	if names, ok := schema["enum"].([]any); ok {
		return names[g.IntN(len(names))]
	}
	kind := schema["type"]
	if kinds, ok := kind.([]any); ok {
		kind = kinds[g.IntN(len(kinds))]
	}
	switch kind {
	case "object":
		return g.object(schema, root, depth)
	case "array":
		items, _ := schema["items"].(map[string]any)
		list := make([]any, g.IntN(4))
		for i := range list {
			list[i] = g.value(items, root, depth+1)
		}
		return list
	case "string":
		return g.text(schema)
	case "integer", "number":
		return g.number(schema)
	case "boolean":
		return g.IntN(2) == 0
	case "null":
		return nil
	}
	return g.anything(0)
}

func (g generator) object(schema, root map[string]any, depth int) any {
	o := make(map[string]any)
	properties, _ := schema["properties"].(map[string]any)
	required := fmt.Sprint(schema["required"])
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if chance := g.IntN(100); chance < 12 || strings.Contains(required, name) && chance < 97 {
			o[name] = g.value(properties[name].(map[string]any), root, depth+1)
		}
	}
	if more, ok := schema["additionalProperties"].(map[string]any); ok {
		for range g.IntN(4) {
			o[pick(g, "", "a", "b", "1", "-7", "007", "true", "99999999999")] = g.value(more, root, depth+1)
		}
	}
	if g.IntN(40) == 0 {
		o[pick(g, "salt", "customerId", "", "x/y")] = 1
	}
	return o
}

func (g generator) text(schema map[string]any) string {
	if g.IntN(8) == 0 {
		return strings.Repeat(pick(g, "a", "é", "😀"), g.IntN(30))
	}
	if schema["format"] != nil {
		return pick(g, "2026-01-02T03:04:05Z", "9b2d7f3e-1111-4222-8333-444455556666", "x")
	}
	if schema["contentEncoding"] != nil {
		return pick(g, "AQID", "AQIDBAUG", "AQIDBAUGBw", "", "_-8", "AQI=", "*")
	}
	return pick(g, "soup", "s", "", "debug", "app.log", "../x", "k-ab", "k--a", "k-éééééé", "1.5s", "1", "-4", "-9",
		"18446744073709551616", "aB", "hello")
}

func (g generator) number(schema map[string]any) any {
	if g.IntN(3) > 0 {
		if low, ok := schema["minimum"].(float64); ok && low > -1e6 {
			return low + float64(g.IntN(3))
		}
		return g.IntN(12)
	}
	return pick[any](g, -1, 0, 1, 3, 7, 10, 11, 12, 13, 100, 1.0, 1.5, 10.5, -5, -6, 2147483647, 2147483648, -2147483649,
		json.RawMessage("1e1"), json.RawMessage("1E400"[:3]), json.RawMessage("1e39"), json.RawMessage("-0"))
}

func (g generator) anything(depth int) any {
	switch n := g.IntN(9); {
	case n == 0:
		return nil
	case n == 1:
		return true
	case n == 2 && depth < 3:
		return []any{g.anything(depth + 1)}
	case n == 3 && depth < 3:
		return map[string]any{pick(g, "text", "n", "x"): g.anything(depth + 1)}
	case n < 6:
		return pick(g, "", "x", "1", "COURSE_MAIN")
	}
	return pick[any](g, 0, 1, -1, 1.5)
}

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }
