package tool

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"unicode/utf8"
)

// What the catalogue on the bus has room for.
const (
	maxArguments    = 64 // of a tool
	maxArgumentName = 64 // characters
)

// elsewhere are the parts of a JSON Schema that can name arguments outside of its
// properties.
var elsewhere = []string{
	"$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "if", "then", "else",
	"patternProperties", "dependentSchemas", "dependencies",
}

// argumentNames returns the names of all arguments that a schema speaks of, sorted.
// It returns false where there could be others, or more than there is room for.
func argumentNames(schema []byte) (names []string, all bool) {
	var parts map[string]json.RawMessage
	if json.Unmarshal(schema, &parts) != nil || parts == nil {
		return nil, false
	}
	for _, part := range elsewhere {
		if _, there := parts[part]; there {
			return nil, false
		}
	}
	for _, part := range []string{"additionalProperties", "unevaluatedProperties"} {
		if rest, there := parts[part]; there && !bytes.Equal(rest, []byte("false")) {
			return nil, false
		}
	}
	var properties map[string]json.RawMessage
	if raw, there := parts["properties"]; there && json.Unmarshal(raw, &properties) != nil {
		return nil, false
	}
	for name := range properties {
		if len(properties) > maxArguments || utf8.RuneCountInString(name) > maxArgumentName {
			return nil, false
		}
	}
	return slices.Sorted(maps.Keys(properties)), true
}
