package taint_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/taint"
)

// FuzzJSON looks for JSON in which another reader sees values that are not found, or
// that one of the two does not take for JSON.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":"b@c.example","d":[1,{"e":12345678}]}`, `{"a":1}{}`, `{"a":1,"a":"x@y.example"}`, `["\u0078@y.example","\ud800 a.example","` + "\xff" + ` b.example"]`,
		`{"c.example":null}`, `4111111111111111`, strings.Repeat("[", 64) + `"a.example"` + strings.Repeat("]", 64), ` "a.example" `, ``,
	} {
		f.Add([]byte(seed))
	}
	finder := new(taint.Finder)
	f.Fuzz(func(t *testing.T, text []byte) {
		got := make(map[string]bool)
		err := finder.JSON(text, taint.Content, func(v []byte) bool { got[string(v)] = true; return true })
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		var whole any
		if valid := json.Valid(text) && d.Decode(&whole) == nil; !valid || depth(whole) > 64 {
			if err == nil {
				t.Errorf("%q is taken for JSON", text)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		each(whole, func(s string) {
			for _, v := range values(s, taint.Content) {
				if !got[v] {
					t.Errorf("%q in %q is not found", v, text)
				}
			}
		})
	})
}

// depth is how deep what is deepest stands.
func depth(v any) (deepest int) {
	switch v := v.(type) {
	case []any:
		for _, v := range v {
			deepest = max(deepest, depth(v)+1)
		}
	case map[string]any:
		for _, v := range v {
			deepest = max(deepest, depth(v)+1)
		}
	}
	return deepest
}

func each(v any, visit func(string)) {
	switch v := v.(type) {
	case string:
		visit(v)
	case json.Number:
		visit(v.String())
	case []any:
		for _, v := range v {
			each(v, visit)
		}
	case map[string]any:
		for name, v := range v {
			visit(name)
			each(v, visit)
		}
	}
}
