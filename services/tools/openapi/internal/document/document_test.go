package document_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/document"
)

var update = flag.Bool("update", false, "write what became of the shop's operations")

func free(in, name string) bool { return in == "header" && strings.EqualFold(name, "X-Api-Key") }

func parse(t *testing.T, raw string) *document.Document {
	t.Helper()
	doc, err := document.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// operation is a document of one operation, POST /x, with the given parts.
func operation(version, parts, schemas string) string {
	return fmt.Sprintf(`{"openapi":%q,"info":{"title":"t","version":"1"},"paths":{"/x":{"post":{"operationId":"x",%s}}},
		"components":{"schemas":{%s}}}`, version, parts, schemas)
}

func body(schema string) string {
	return `"requestBody":{"content":{"application/json":{"schema":` + schema + `}}},"responses":{"200":{"description":"x"}}`
}

func multipart(media string) string {
	return `"requestBody":{"content":{"multipart/form-data":` + media + `}},"responses":{"200":{"description":"x"}}`
}

func TestShop(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type made struct {
		Input, Output json.RawMessage `json:",omitempty"`
		Plan          any             `json:",omitempty"`
		NoTool        string          `json:",omitempty"`
	}
	all := map[string]made{}
	for _, op := range parse(t, string(raw)).Operations {
		if op.Server != "https://shop.example.com/v2" {
			t.Errorf("%s: server %s", op.Name(), op.Server)
		}
		if shape, err := op.Shape(free); err != nil {
			all[op.Name()] = made{NoTool: err.Error()}
		} else {
			all[op.Name()] = made{shape.Input, shape.Output, shape.Plan, ""}
		}
	}
	got, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "../../testdata/shop.json"
	if *update {
		if err := os.WriteFile(golden, append(got, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("what became of the shop's operations (-want +got):\n%s", diff)
	}
}

// valid reports whether a value satisfies a schema, by the validator that the
// executor uses.
func valid(t *testing.T, schema []byte, value string) bool {
	t.Helper()
	var s jsonschema.Schema
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	var v any
	if err := json.Unmarshal([]byte(value), &v); err != nil {
		t.Fatal(err)
	}
	return r.Validate(v) == nil
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	const cycle = `"Node":{"type":"object","required":["v"],"properties":{"v":{"type":"integer"},"next":{"$ref":"#/components/schemas/Node"}}}`
	tests := []struct {
		name, version, schema, schemas string
		good, bad                      []string // bodies
	}{{
		name: "nullable", version: "3.0.3", schema: `{"type":"string","nullable":true,"enum":["a"]}`,
		good: []string{`"a"`, `null`}, bad: []string{`"b"`, `1`},
	}, {
		name: "nullable without a type", version: "3.0.3", schema: `{"nullable":true,"allOf":[{"type":"integer"}]}`,
		good: []string{`1`, `null`}, bad: []string{`"b"`},
	}, {
		name: "null as a type", version: "3.1.0", schema: `{"type":["string","null"],"minLength":2}`,
		good: []string{`"ab"`, `null`}, bad: []string{`"a"`, `1`},
	}, {
		name: "an exclusive bound of 3.0", version: "3.0.3", schema: `{"type":"number","minimum":1,"exclusiveMinimum":true,"maximum":3,"exclusiveMaximum":false}`,
		good: []string{`1.1`, `3`}, bad: []string{`1`, `3.1`},
	}, {
		name: "an exclusive bound of 3.1", version: "3.1.0", schema: `{"type":"number","exclusiveMinimum":1}`,
		good: []string{`1.1`}, bad: []string{`1`},
	}, {
		name: "oneOf with what is referred to", version: "3.0.3", schema: `{"oneOf":[{"$ref":"#/components/schemas/A"},{"$ref":"#/components/schemas/B"}]}`,
		schemas: `"A":{"type":"string"},"B":{"type":"integer"}`, good: []string{`"a"`, `1`}, bad: []string{`true`},
	}, {
		name: "maps", version: "3.0.3", schema: `{"type":"object","additionalProperties":{"type":"integer"}}`,
		good: []string{`{"a":1}`}, bad: []string{`{"a":"x"}`},
	}, {
		name: "no other members", version: "3.0.3", schema: `{"type":"object","additionalProperties":false,"properties":{"a":{}}}`,
		good: []string{`{"a":"x"}`}, bad: []string{`{"b":1}`},
	}, {
		name: "a schema that refers to itself", version: "3.0.3", schema: `{"$ref":"#/components/schemas/Node"}`, schemas: cycle,
		good: []string{`{"v":1,"next":{"v":2,"next":{"v":3}}}`}, bad: []string{`{"v":1,"next":{"v":2,"next":{"v":"x"}}}`},
	}, {
		name: "two that refer to each other", version: "3.1.0", schema: `{"$ref":"#/components/schemas/A"}`,
		schemas: `"A":{"type":"object","properties":{"b":{"$ref":"#/components/schemas/B"}}},"B":{"type":"array","items":{"$ref":"#/components/schemas/A"}}`,
		good:    []string{`{"b":[{"b":[]}]}`}, bad: []string{`{"b":[{"b":[1]}]}`, `{"b":{}}`},
	}, {
		name: "what is beside a reference counts in 3.1", version: "3.1.0", schema: `{"$ref":"#/components/schemas/A","minLength":3}`,
		schemas: `"A":{"type":"string","maxLength":4}`, good: []string{`"abc"`}, bad: []string{`"ab"`, `"abcde"`},
	}, {
		name: "what is read-only is not asked for", version: "3.0.3", good: []string{`{"a":1}`}, bad: []string{`{"id":1}`, `{"a":1,"id":2}`},
		schema: `{"type":"object","required":["id","a"],"additionalProperties":false,"properties":{"id":{"type":"integer","readOnly":true},"a":{}}}`,
	}, {
		name: "a pattern of JavaScript is left to the API", version: "3.0.3", schema: `{"type":"string","pattern":"^(?!x)"}`,
		good: []string{`"x"`}, bad: []string{`1`},
	}, {
		name: "words of 3.1", version: "3.1.0", schema: `{"prefixItems":[{"const":"a"}],"contains":{"type":"integer"},"type":"array","unevaluatedItems":false}`,
		good: []string{`["a",1]`}, bad: []string{`["b",1]`, `["a"]`},
	}, {
		name: "if, then and else", version: "3.1.0", schema: `{"if":{"type":"integer"},"then":{"minimum":3},"else":{"type":"string"}}`,
		good: []string{`3`, `"x"`}, bad: []string{`2`, `true`},
	}, {
		name: "true is a schema", version: "3.1.0", schema: `{"type":"object","properties":{"a":true,"b":false}}`,
		good: []string{`{"a":1}`}, bad: []string{`{"b":1}`},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			shape, err := parse(t, operation(tt.version, body(tt.schema), tt.schemas)).Operations[0].Shape(free)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range tt.good {
				if !valid(t, shape.Input, `{"body":`+v+`}`) {
					t.Errorf("%s is refused by %s", v, shape.Input)
				}
			}
			for _, v := range tt.bad {
				if valid(t, shape.Input, `{"body":`+v+`}`) {
					t.Errorf("%s is taken by %s", v, shape.Input)
				}
			}
		})
	}
}

func TestNamesOfArguments(t *testing.T) {
	t.Parallel()
	doc := parse(t, operation("3.0.3", `"parameters":[
		{"in":"query","name":"id","schema":{}},{"in":"header","name":"id","schema":{}},{"in":"cookie","name":"id","schema":{}},
		{"in":"query","name":"filter[name]","schema":{}},{"in":"query","name":"filter(name)","schema":{}},{"in":"query","name":"$top","schema":{}},
		{"in":"query","name":"body","schema":{}},{"in":"query","name":"語","schema":{}},{"in":"query","name":"`+strings.Repeat("n", 100)+`","schema":{}},
		{"in":"header","name":"Accept","schema":{}},{"in":"header","name":"Authorization","required":true,"schema":{}},{"in":"header","name":"x-api-key","required":true,"schema":{}},
		{"in":"header","name":"X-Forwarded-Host","schema":{}}],`+body(`{}`), ""))
	shape, err := doc.Operations[0].Shape(free)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range shape.Plan.Parameters {
		got = append(got, p.In+" "+p.Argument)
	}
	got = append(got, shape.Plan.Body.Argument)
	want := []string{
		"query id", "query filter_name", "query filter_name_query", "query top", "query body", "query query_6", "query query_7",
		"header id_header", "cookie id_cookie", "body_request",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOperationsThatAreNoTools(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"type":"array","items":`, 30) + `{}` + strings.Repeat(`}`, 30)
	var wide []string
	for i := range 4100 {
		wide = append(wide, fmt.Sprintf(`"p%d":{"type":"string"}`, i))
	}
	tests := []struct{ name, parts, schemas, want string }{
		{"a header that cannot be set, and must be", `"parameters":[{"in":"header","name":"Host","required":true,"schema":{}}],` + body(`{}`), "", "cannot set it"},
		{"a style that is none", `"parameters":[{"in":"query","name":"a","style":"zigzag","schema":{}}],` + body(`{}`), "", "zigzag"},
		{"a parameter that is no JSON", `"parameters":[{"in":"query","name":"a","content":{"text/csv":{"schema":{}}}}],` + body(`{}`), "", "content type"},
		{"a parameter of nowhere", `"parameters":[{"in":"soul","name":"a","schema":{}}],` + body(`{}`), "", "soul"},
		{"a body of another kind", `"requestBody":{"content":{"multipart/mixed":{}}},"responses":{}`, "", "neither JSON"},
		{"a body of parts that are not known", `"requestBody":{"content":{"multipart/form-data":{}}},"responses":{}`, "", "no schema"},
		{"a body of no parts", multipart(`{"schema":{"type":"object"}}`), "", "names no parts"},
		{"a body of several schemas", multipart(`{"schema":{"allOf":[{"type":"object","properties":{"a":{}}}]}}`), "", "several schemas"},
		{"a part with headers", multipart(`{"schema":{"properties":{"a":{}}},"encoding":{"a":{"headers":{"X-A":{"schema":{}}}}}}`), "", "headers of its own"},
		{"a part of a type that is none", multipart(`{"schema":{"properties":{"a":{}}},"encoding":{"a":{"contentType":"text"}}}`), "", "content type"},
		{"a stream", `"responses":{"200":{"description":"x","content":{"text/event-stream":{}}},"400":{"description":"x","content":{"application/json":{}}}}`, "", "stream of events"},
		{"a schema that is too deep", body(deep), "", "deeper than 24"},
		{"a schema that is too wide", body(`{"type":"object","properties":{` + strings.Join(wide, ",") + `}}`), "", "more than 4000"},
		{"a type that is none", body(`{"type":"file"}`), "", "none of JSON Schema"},
		{"a dynamic reference", body(`{"$dynamicRef":"#x"}`), "", "$dynamicRef"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(t, operation("3.1.0", tt.parts, tt.schemas)).Operations[0].Shape(free)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// A schema that doubles with each level stays as small as it is in its document.
func TestSchemasDoNotExplode(t *testing.T) {
	t.Parallel()
	var schemas []string
	for i := range 60 {
		ref := fmt.Sprintf(`{"$ref":"#/components/schemas/S%d"}`, i+1)
		schemas = append(schemas, fmt.Sprintf(`"S%d":{"type":"object","properties":{"a":%s,"b":%s}}`, i, ref, ref))
	}
	schemas = append(schemas, `"S60":{"type":"string"}`)
	op := parse(t, operation("3.0.3", body(`{"$ref":"#/components/schemas/S0"}`), strings.Join(schemas, ","))).Operations[0]
	shape, err := op.Shape(free)
	if err != nil {
		t.Fatal(err)
	}
	if len(shape.Input) > 10_000 {
		t.Errorf("the schema has %d bytes", len(shape.Input))
	}
	again, err := op.Shape(free)
	if err != nil || string(again.Input) != string(shape.Input) {
		t.Errorf("read twice it is another one: %v", err)
	}
}
