package jsonschema_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/jsonschema"
)

func check(t *testing.T, schema, document string) []string {
	t.Helper()
	s, err := jsonschema.Compile([]byte(schema))
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	wrong, err := s.Check([]byte(document))
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	var all []string
	for _, v := range wrong {
		all = append(all, strings.TrimSpace(v.GetPointer()+" "+v.GetMessage()))
	}
	return all
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const draft7 = `"$schema":"http://json-schema.org/draft-07/schema#",`
	const person = `{"type":"object","properties":{
		"name":{"type":"string","minLength":2,"maxLength":4,"pattern":"^[a-z]*$"},
		"age":{"type":"integer","minimum":0,"exclusiveMaximum":150,"multipleOf":1},
		"mood":{"enum":["good","bad",1]},
		"pets":{"type":"array","items":{"$ref":"#/$defs/pet"},"minItems":1,"maxItems":2,"uniqueItems":true},
		"note":{"type":["string","null"]}},
		"required":["name"],"additionalProperties":false,
		"$defs":{"pet":{"$anchor":"pet","type":"object","properties":{"kind":{"const":"cat"}},"required":["kind"]}}}`
	tests := []struct {
		name, schema, document string
		want                   []string
	}{
		{"all is well", person, `{"name":"anna","age":7,"mood":1.0,"pets":[{"kind":"cat"}],"note":null}`, nil},
		{"not JSON", person, `{"name":`, []string{"/name is not valid JSON"}},
		{"a name twice", person, `{"name":"anna","name":"bert"}`, []string{"/name is given twice"}},
		{"two values", person, `{"name":"anna"} {}`, []string{"must be one JSON value and nothing after it"}},
		{"half a surrogate", person, `{"name":"\ud800"}`, []string{"/name is not valid JSON"}},
		{"nothing is right", `false`, `1`, []string{"must not be given"}},
		{"a number beyond all bounds", person, `{"name":"anna","age":1e999}`, []string{"/age is a number that is too long or too large"}},
		{"nested too deeply", `{}`, strings.Repeat("[", 70) + strings.Repeat("]", 70), []string{strings.Repeat("/0", 63) + " is nested too deeply"}},
		{"another type", person, `[]`, []string{"must be an object, not an array"}},
		{"missing", person, `{}`, []string{"/name is required"}},
		{"unknown", person, `{"name":"anna","nmae":1}`, []string{"/nmae is not known; known are: age, mood, name, note, pets"}},
		{"a null instead of nothing", person, `{"name":null}`, []string{"/name must be a string, not null; leave it out if it is not wanted"}},
		{"strings", person, `{"name":"A"}`, []string{"/name must be at least 2 characters", `/name must match the pattern "^[a-z]*$"`}},
		{"a string that is too long", person, `{"name":"annaa"}`, []string{"/name must be at most 4 characters"}},
		{"numbers", person, `{"name":"anna","age":150}`, []string{"/age must be less than 150"}},
		{"a fraction", person, `{"name":"anna","age":1.5}`, []string{"/age must be an integer, not a number"}},
		{"a negative number", person, `{"name":"anna","age":-1}`, []string{"/age must be at least 0"}},
		{"a choice", person, `{"name":"anna","mood":"so"}`, []string{`/mood must be one of "good", "bad", 1`}},
		{"inside an array, by reference", person, `{"name":"anna","pets":[{"kind":"dog"},{}]}`, []string{`/pets/0/kind must be "cat"`, "/pets/1/kind is required"}},
		{"the same twice", person, `{"name":"anna","pets":[{"kind":"cat"},{"kind":"cat"}]}`, []string{"/pets must not have the same item twice"}},
		{"too few and too many", person, `{"name":"anna","pets":[]}`, []string{"/pets must have at least 1 items"}},
		{"names are escaped", `{"properties":{"a/b~c":{"type":"string"}}}`, `{"a/b~c":1}`, []string{"/a~1b~0c must be a string, not an integer"}},
		{"one alternative is meant", `{"anyOf":[{"type":"null"},{"type":"object","required":["x"]}]}`, `{}`, []string{"/x is required"}},
		{"no alternative is meant", `{"anyOf":[{"type":"object","required":["y"]},{"type":"object","required":["x"]}]}`, `{}`, []string{"fits none of the alternatives in the schema"}},
		{"two alternatives and one allowed", `{"oneOf":[{"type":"object"},{"minProperties":0}]}`, `{}`, []string{"fits 2 of the alternatives in the schema and must fit one"}},
		{"ruled out", `{"not":{"type":"object"}}`, `{}`, []string{"is of a form that the schema rules out"}},
		{"conditional", `{"if":{"required":["a"]},"then":{"required":["b"]},"else":{"required":["c"]}}`, `{"a":1}`, []string{"/b is required"}},
		{"the other way", `{"if":{"required":["a"]},"then":{"required":["b"]},"else":{"required":["c"]}}`, `{}`, []string{"/c is required"}},
		{"depends", `{"dependentRequired":{"a":["b"]},"dependentSchemas":{"a":{"maxProperties":0}}}`, `{"a":1}`, []string{"/b is required", "must have at most 0 members"}},
		{"tuple", `{"prefixItems":[{"type":"string"}],"items":false}`, `[1,2]`, []string{"/0 must be a string, not an integer", "/1 must not be given"}},
		{"tuple of draft-07", `{` + draft7 + `"items":[{"type":"string"}],"additionalItems":{"type":"boolean"}}`, `["a",2]`, []string{"/1 must be a boolean, not an integer"}},
		{"definitions of draft-07", `{` + draft7 + `"$ref":"#/definitions/a","definitions":{"a":{"type":"string"}}}`, `1`, []string{"must be a string, not an integer"}},
		{"contains", `{"contains":{"type":"string"},"minContains":2}`, `["a",1]`, []string{"does not have the items that it must contain"}},
		{"names and patterns", `{"propertyNames":{"maxLength":2},"patternProperties":{"^a":{"type":"string"}},"additionalProperties":false}`, `{"a":1,"bcd":1}`, []string{"/a must be a string, not an integer", "/bcd has a name that is not allowed", "/bcd is not known"}},
		{"a keyword that is not told of in detail", `{"allOf":[{"properties":{"a":true}}],"unevaluatedProperties":false}`, `{"b":1}`, []string{"does not satisfy the schema"}},
		{"by anchor", `{"$ref":"#pet","$defs":{"p":{"$anchor":"pet","type":"array"}}}`, `1`, []string{"must be an array, not an integer"}},
		{"by the own id", `{"$id":"https://example.com/a.json","$ref":"https://example.com/a.json#/$defs/p","$defs":{"p":{"type":"array"}}}`, `1`, []string{"must be an array, not an integer"}},
		{"recursive", `{"type":"object","properties":{"next":{"$ref":"#"}},"additionalProperties":false}`, `{"next":{"next":{"x":1}}}`, []string{"/next/next/x is not known; known are: next"}},
		{"large integers stay exact", `{"maximum":9223372036854775807}`, `18446744073709551615`, []string{"must be at most 9.223372036854776e+18"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, check(t, tt.schema, tt.document)); diff != "" {
				t.Errorf("Check (-want +got):\n%s", diff)
			}
		})
	}
}

// Violations are bounded, and never repeat a value.
func TestViolationsAreBounded(t *testing.T) {
	t.Parallel()
	var doc strings.Builder
	for i := range 100 {
		fmt.Fprintf(&doc, `,"secret%d":"hunter2"`, i)
	}
	got := check(t, `{"additionalProperties":{"enum":["x"],"maxLength":1,"pattern":"^$"}}`, "{"+doc.String()[1:]+"}")
	if len(got) != 32 || strings.Contains(strings.Join(got, "\n"), "hunter2") {
		t.Errorf("%d violations: %q", len(got), got)
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(`{"allOf":[`, 40) + `true` + strings.Repeat(`]}`, 40)
	var twice strings.Builder // each level applies the next one twice
	for i := range 20 {
		fmt.Fprintf(&twice, `"a%d":{"allOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]},`, i, i+1, i+1)
	}
	tests := []struct{ name, schema, want string }{
		{"not JSON", `{`, "is not valid JSON"},
		{"not an object", `[]`, "root: must be an object or a boolean"},
		{"a keyword twice", `{"type":"object","type":"string"}`, "/type is given twice"},
		{"a keyword in other case", `{"Type":"object"}`, `root: "Type" is written "type"`},
		{"an unknown dialect", `{"$schema":"http://json-schema.org/draft-04/schema#"}`, `the dialect "http://json-schema.org/draft-04/schema#" is not supported`},
		{"a dialect within another", `{"properties":{"a":{"$schema":"https://json-schema.org/draft/2020-12/schema"}}}`, "/properties/a: a dialect other than the root's"},
		{"a reference into the network", `{"$ref":"https://example.com/x.json"}`, "root: $ref leads out of the schema; nothing is loaded"},
		{"a reference to a file", `{"properties":{"a":{"$ref":"file:///etc/passwd"}}}`, "/properties/a: $ref leads out of the schema; nothing is loaded"},
		{"a relative reference", `{"$ref":"other.json#/a"}`, "root: $ref leads out of the schema; nothing is loaded"},
		{"a reference to nothing", `{"$ref":"#/$defs/a"}`, "root: $ref to what is not there"},
		{"a schema that is itself", `{"$ref":"#"}`, "root: refers to itself without end"},
		{"a circle", `{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"}]}}}`, "refers to itself without end"},
		{"doubling", `{"$defs":{` + twice.String() + `"a20":true},"$ref":"#/$defs/a0"}`, "subschemas for one value"},
		{"nested deeply", long, "is nested too deeply"},
		{"an expression that is none", `{"pattern":"("}`, "root/pattern: regular expression: error parsing regexp"},
		{"an expression of Perl", `{"pattern":"(?=a)"}`, "root/pattern: regular expression: error parsing regexp"},
		{"an expression that repeats", `{"pattern":"((a{100}){10}){10}"}`, "root/pattern: regular expression: error parsing regexp"},
		{"an expression that is large", `{"pattern":"(\\pL{1000})(\\pL{1000})(\\pL{1000})(\\pL{1000})(\\pL{1000})(\\pL{1000})(\\pL{1000})(\\pL{1000})(\\pL{1000})(\\pL{1000})"}`, "root/pattern: a regular expression that repeats too much"},
		{"an expression of names", `{"patternProperties":{"[":true}}`, "root/patternProperties: regular expression: error parsing regexp"},
		{"a second id", `{"properties":{"a":{"$id":"x"}}}`, "/properties/a: $id is supported at the root only"},
		{"dynamic references", `{"$dynamicRef":"#a"}`, "root: $dynamicRef is not supported"},
		{"a multiple of nothing", `{"multipleOf":0}`, "root: multipleOf must be positive"},
		{"a list that is none", `{"anyOf":{}}`, "root/anyOf: must be an array"},
		{"a map that is none", `{"properties":[]}`, "root/properties: must be an object"},
		{"a subschema that is none", `{"properties":{"a":null}}`, "/properties/a: must be an object or a boolean"},
		{"a type that is none", `{"type":7}`, "read: "},
		{"large", `{"description":"` + strings.Repeat("x", 262144) + `"}`, "must be at most 262144"},
		{"many subschemas", `{"allOf":[` + strings.Repeat("true,", 5000) + `true]}`, "more than 5000 subschemas"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := jsonschema.Compile([]byte(tt.schema))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Compile: %v, want %q", err, tt.want)
			}
		})
	}
}

// A schema and a value that together would take for ever are refused at once.
func TestCheckIsBounded(t *testing.T) {
	t.Parallel()
	nested := strings.Repeat("[", 60) + strings.Repeat("]", 60)
	many := "[" + strings.Repeat("1,", 40000) + "1]"
	var alternatives strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&alternatives, `,{"const":"%d"}`, i)
	}
	text := strings.Repeat("a", 1<<20)
	tests := []struct{ name, schema, document string }{
		{"doubling with each level", `{"$defs":{"n":{"items":{"allOf":[{"$ref":"#/$defs/n"},{"$ref":"#/$defs/n"}]}}},"$ref":"#/$defs/n"}`, nested},
		{"many alternatives for many elements", `{"items":{"anyOf":[` + alternatives.String()[1:] + `]}}`, many},
		{"alternatives that quote a long value", `{"anyOf":[` + alternatives.String()[1:] + `]}`, `{"a":"` + text + `"}`},
		{"a large expression for a long text", `{"additionalProperties":{"pattern":"^(a?){900}(a?){900}b$"}}`, `{"a":"` + text + `"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			got := check(t, tt.schema, tt.document)
			if diff := cmp.Diff([]string{"is too large to be checked against the schema"}, got); diff != "" {
				t.Errorf("Check (-want +got):\n%s", diff)
			}
			if took := time.Since(start); took > time.Minute { // without a bound it takes hours, or for ever
				t.Errorf("Check took %v", took)
			}
		})
	}
}

// What is large and honest passes.
func TestCheckTakesLargeValues(t *testing.T) {
	t.Parallel()
	const schema = `{"type":"object","properties":{"rows":{"type":"array","items":{"type":"object","properties":{
		"id":{"type":"integer"},"name":{"type":"string","pattern":"^[a-z ]+$"},"kind":{"anyOf":[{"type":"null"},{"enum":["a","b"]}]}},
		"required":["id"],"additionalProperties":false}},"text":{"type":"string","maxLength":1000000}}}`
	rows := strings.Repeat(`{"id":1,"name":"some name of it","kind":"b"},`, 5000)
	doc := `{"text":"` + strings.Repeat("x", 700000) + `","rows":[` + rows[:len(rows)-1] + `]}`
	if got := check(t, schema, doc); got != nil {
		t.Errorf("Check: %q", got)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	got, err := jsonschema.Members([]byte(` {"a": {"x":1}, "b":2} `))
	if err != nil || string(got["a"]) != `{"x":1}` || string(got["b"]) != "2" || len(got) != 2 {
		t.Errorf("Members = %v, %v", got, err)
	}
	for _, bad := range []string{``, `[]`, `{"a":1,"a":2}`, `{} {}`, `{`} {
		if _, err := jsonschema.Members([]byte(bad)); err == nil {
			t.Errorf("Members(%q): no error", bad)
		}
	}
	if jsonschema.Valid([]byte(`[1]`)) != nil || jsonschema.Valid([]byte(`[1`)) == nil {
		t.Error("Valid is wrong")
	}
}

// Whatever the two say, the answer comes, and it is a bounded list.
func FuzzCheck(f *testing.F) {
	f.Add(`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`, `{"a":1}`)
	f.Add(`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"type":"string"}],"dependencies":{"a":["b"]}}`, `["a"]`)
	f.Add(`{"anyOf":[{"$ref":"#/$defs/x"}],"$defs":{"x":{"not":{}}},"unevaluatedProperties":false}`, `{}`)
	f.Add(`{"if":{"const":1},"then":false,"patternProperties":{"^a":{"multipleOf":0.5}}}`, `{"a":0.3}`)
	f.Add(`{"contains":{"enum":[1]},"minContains":0,"uniqueItems":true}`, `[1,1.0]`)
	f.Fuzz(func(t *testing.T, schema, document string) {
		s, err := jsonschema.Compile([]byte(schema))
		if err != nil {
			return
		}
		wrong, err := s.Check([]byte(document))
		if err != nil {
			t.Fatalf("Check: %v", err)
		}
		if len(wrong) > 32 {
			t.Fatalf("%d violations", len(wrong))
		}
		for _, v := range wrong {
			if v.GetMessage() == "" || len(v.GetMessage()) > 512 || len(v.GetPointer()) > 512 {
				t.Fatalf("violation %v", v)
			}
		}
	})
}
