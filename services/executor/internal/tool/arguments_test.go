package tool

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestArgumentNames(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range maxArguments + 1 {
		many = append(many, fmt.Sprintf(`"a%d":{}`, i))
	}
	tests := []struct {
		name   string
		schema string
		want   []string
		all    bool
	}{
		{"of properties", `{"type":"object","properties":{"b":{"type":"string"},"a":{}},"required":["b"]}`, []string{"a", "b"}, true},
		{"no others", `{"properties":{"a":{}},"additionalProperties":false,"unevaluatedProperties": false}`, []string{"a"}, true},
		{"none", `{"type":"object"}`, nil, true},
		{"any others", `{"properties":{"a":{}},"additionalProperties":true}`, nil, false},
		{"others of a kind", `{"properties":{"a":{}},"unevaluatedProperties":{"type":"string"}}`, nil, false},
		{"others by a pattern", `{"properties":{"a":{}},"patternProperties":{"^x":{}}}`, nil, false},
		{"others elsewhere", `{"properties":{"a":{}},"$ref":"#/$defs/more"}`, nil, false},
		{"others in one case", `{"properties":{"a":{}},"anyOf":[{"properties":{"b":{}}}]}`, nil, false},
		{"a part that is named otherwise", `{"properties":{"a":{}},"allof":[]}`, []string{"a"}, true},
		{"properties that are none", `{"properties":[]}`, nil, false},
		{"as many as there is room for", `{"properties":{` + strings.Join(many[1:], ",") + `}}`, nil, true},
		{"more than there is room for", `{"properties":{` + strings.Join(many, ",") + `}}`, nil, false},
		{"a name that is too long", `{"properties":{"` + strings.Repeat("é", maxArgumentName+1) + `":{}}}`, nil, false},
		{"a long name", `{"properties":{"` + strings.Repeat("é", maxArgumentName) + `":{}}}`, []string{strings.Repeat("é", maxArgumentName)}, true},
		{"true", `true`, nil, false},
		{"null", `null`, nil, false},
		{"nothing", ``, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, all := argumentNames([]byte(tt.schema))
			if all != tt.all || len(got) != maxArguments && cmp.Diff(tt.want, got) != "" {
				t.Errorf("got %q, %v, want %q, %v", got, all, tt.want, tt.all)
			}
		})
	}
}

// FuzzArgumentNames checks that whatever a schema says, the names have room.
func FuzzArgumentNames(f *testing.F) {
	f.Add([]byte(`{"properties":{"b":{},"a":{"type":"string"}},"additionalProperties":false}`))
	f.Add([]byte(`{"properties":{"a":{}},"anyOf":[]}`))
	f.Add([]byte(`{"properties":{"\ud800":1,"\u0000":{}}}`))
	f.Fuzz(func(t *testing.T, schema []byte) {
		names, all := argumentNames(schema)
		if !all && names != nil || len(names) > maxArguments || !slices.IsSorted(names) {
			t.Errorf("got %q, %v", names, all)
		}
		for _, name := range names {
			if !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxArgumentName {
				t.Errorf("got the name %q", name)
			}
		}
	})
}
