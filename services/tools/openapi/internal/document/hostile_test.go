package document_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/document"
)

func TestHostileDocuments(t *testing.T) {
	t.Parallel()
	asked := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("something was loaded from elsewhere") }))
	t.Cleanup(asked.Close)
	file := filepath.Join(t.TempDir(), "x.json")
	if err := os.WriteFile(file, []byte(`{"type":"string"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	bomb := "openapi: 3.0.0\na: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ","))
	}
	tests := []struct{ name, raw, want string }{
		{"nothing", "", "neither"},
		{"a page", "<html>", "openapi"},
		{"Swagger 2", `{"swagger":"2.0","paths":{}}`, "Swagger 2"},
		{"a version that is none", `{"openapi":"4.0.0","paths":{}}`, "3.0, 3.1 or 3.2"},
		{"a version that is a number", "openapi: 3.1\npaths: {}", "3.0, 3.1 or 3.2"},
		{"a key twice", `{"openapi":"3.0.0","openapi":"3.1.0"}`, "duplicate"},
		{"a key twice in YAML", "openapi: 3.0.0\nopenapi: 3.1.0", "twice"},
		{"text that is not UTF-8", "{\"openapi\":\"3.0.0\xff\"}", "UTF-8"},
		{"something after it", `{"openapi":"3.0.0"} {}`, "JSON"},
		{"two documents of YAML", "openapi: 3.0.0\n---\nopenapi: 3.0.0", "more than one"},
		{"10 MB of brackets", strings.Repeat(`{"a":`, 2_000_000), "deeper than 100"},
		{"10 MB of YAML brackets", "a: " + strings.Repeat("[", 10_000_000), "YAML"},
		{"10 MB of values", `{"a":[0` + strings.Repeat(",0", 5_000_000) + `]}`, "more than 500000"},
		{"deep YAML", "a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "deeper than 100"},
		{"aliases that multiply", bomb, "more than 500000"},
		{"an alias within itself", "openapi: 3.0.0\na: &a [*a]", "deeper than 100"},
		{"a merge key", "openapi: 3.0.0\na: &a {b: c}\nd: {<<: *a}", "merge"},
		{"a key that is a list", "openapi: 3.0.0\n? [a]\n: b", "plain text"},
		{"a number that is none", "openapi: 3.0.0\na: .nan", "no number"},
		{"a reference to a server", operation("3.0.0", body(`{"$ref":"`+asked.URL+`/x.json"}`), ""), "external"},
		{"a reference to a file", operation("3.0.0", body(`{"$ref":"`+file+`"}`), ""), "external"},
		{"a reference to a file by URL", operation("3.1.0", body(`{"$ref":"file://`+file+`#/x"}`), ""), "external"},
		{"a path that is elsewhere", `{"openapi":"3.0.0","info":{"title":"t","version":"1"},"paths":{"/x":{"$ref":"` + asked.URL + `"}}}`, "external"},
		{"references in a row", operation("3.1.0", body(`{"$ref":"#/components/schemas/S0"}`), chain(`{"$ref":"#/components/schemas/S%d"}`, 20_000)), "lead to references"},
		{"references in a row, with siblings", operation("3.1.0", body(`{}`), chain(`{"title":"x","$ref":"#/components/schemas/S%d"}`, 20_000)), "lead to references"},
		{"references in a row, through others", operation("3.1.0", body(`{}`), chain(`{"$ref":"#/components/schemas/S%d/properties/a"}`, 20_000)), "lead to references"},
		{"a reference that leads nowhere", operation("3.0.0", body(`{"$ref":"#/components/schemas/Z"}`), ""), "resolve"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			doc, err := document.Parse([]byte(tt.raw))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, error %.300v, want %q in it", doc, err, tt.want)
			}
		})
	}
}

// chain are schemas S0, S1 and so on, each with the next one in it.
func chain(form string, n int) string {
	all := make([]string, 0, n+1)
	for i := range n {
		all = append(all, fmt.Sprintf(`"S%d":`+form, i, i+1))
	}
	return strings.Join(append(all, fmt.Sprintf(`"S%d":{"properties":{"a":{"type":"string"}}}`, n)), ",")
}

func TestChainsThatAreHonest(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"two in a row":       operation("3.1.0", body(`{"$ref":"#/components/schemas/A"}`), `"A":{"$ref":"#/components/schemas/B"},"B":{"type":"string"}`),
		"through a property": operation("3.1.0", body(`{"$ref":"#/components/schemas/A/properties/a"}`), `"A":{"properties":{"a":{"type":"string"}}}`),
		"many, by members":   operation("3.1.0", body(`{}`), chain(`{"properties":{"a":{"$ref":"#/components/schemas/S%d"}}}`, 2000)),
	} {
		if _, err := document.Parse([]byte(raw)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReferencesInCircles(t *testing.T) {
	t.Parallel()
	for name, schemas := range map[string]string{
		"to itself":         `"A":{"$ref":"#/components/schemas/A"}`,
		"to each other":     `"A":{"$ref":"#/components/schemas/B"},"B":{"$ref":"#/components/schemas/A"}`,
		"in allOf":          `"A":{"allOf":[{"$ref":"#/components/schemas/A"}]}`,
		"in not":            `"A":{"not":{"$ref":"#/components/schemas/A"}}`,
		"by many ways":      `"A":{"properties":{"a":{"$ref":"#/components/schemas/A"},"b":{"$ref":"#/components/schemas/A"},"c":{"items":{"$ref":"#/components/schemas/A"}}}}`,
		"through a sibling": `"A":{"$ref":"#/components/schemas/B","properties":{"a":{"$ref":"#/components/schemas/A"}}},"B":{"properties":{"b":{"$ref":"#/components/schemas/A"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, version := range []string{"3.0.0", "3.1.0"} {
				doc, err := document.Parse([]byte(operation(version, body(`{"$ref":"#/components/schemas/A"}`), schemas)))
				if err != nil {
					continue // it may be refused, but must come to an end
				}
				if shape, err := doc.Operations[0].Shape(free); err == nil && len(shape.Input) > 4096 {
					t.Errorf("%s: %d bytes", version, len(shape.Input))
				}
			}
		})
	}
}

func TestManyOperations(t *testing.T) {
	t.Parallel()
	document10k := func(n int) string {
		var paths []string
		for i := range n {
			paths = append(paths, fmt.Sprintf(`"/p%d":{"get":{"operationId":"o%d","responses":{}}}`, i, i))
		}
		return `{"openapi":"3.0.0","info":{"title":"t","version":"1"},"paths":{` + strings.Join(paths, ",") + `}}`
	}
	if doc, err := document.Parse([]byte(document10k(10_000))); err != nil || len(doc.Operations) != 10_000 {
		t.Errorf("10,000: got error %v", err)
	}
	if _, err := document.Parse([]byte(document10k(10_001))); err == nil {
		t.Error("10,001: no error")
	}
}

// FuzzParse looks at whether any document comes to an end, and what is taken of it is
// within bounds.
func FuzzParse(f *testing.F) {
	shop, err := os.ReadFile("../../testdata/shop.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shop)
	f.Add([]byte(operation("3.1.0", body(`{"$ref":"#/components/schemas/A"}`), `"A":{"properties":{"a":{"$ref":"#/components/schemas/A"}}}`)))
	f.Add([]byte(operation("3.0.0", `"parameters":[{"in":"query","name":"a","schema":{"nullable":true}},null]`, `"A":null`)))
	f.Add([]byte("openapi: 3.0.0\npaths: {/x: {get: {parameters: [{$ref: '#/paths/~1x/get/parameters/0'}]}}}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc, err := document.Parse(raw)
		if err != nil {
			if strings.HasPrefix(err.Error(), "panic") && len(raw) < 1<<20 {
				t.Logf("the library: %v", err) // it costs the document, as it should
			}
			return
		}
		for _, op := range doc.Operations {
			shape, err := op.Shape(free)
			if err != nil {
				continue
			}
			if err := shape.Plan.Validate(); err != nil {
				t.Errorf("a plan that cannot be: %v", err)
			}
			if len(shape.Input) > 1<<20+8*len(raw) {
				t.Errorf("%d bytes of schema of %d", len(shape.Input), len(raw))
			}
			_, _ = shape.Plan.Build([]byte(`{"body":{}}`), func(string) bool { return false })
		}
	})
}
