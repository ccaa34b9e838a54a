package client

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
)

const maxBindings = 64

// Binding says that the argument at Path is mirrored into a header.
type Binding struct {
	Path   []string
	Header string // without "Mcp-Param-"
}

// Bindings reads x-mcp-header from an input schema. An error means that the tool
// cannot be called by a modern client.
func Bindings(schema json.RawMessage) ([]Binding, error) {
	var out []Binding
	seen := map[string]bool{}
	return out, bindings(schema, nil, seen, &out)
}

func bindings(schema json.RawMessage, path []string, seen map[string]bool, out *[]Binding) error {
	var s struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(schema, &s) != nil || len(path) > 16 {
		return nil // properties that are no schemas are not for us to judge
	}
	for name, property := range s.Properties {
		var p struct {
			Type   json.RawMessage `json:"type"`
			Header json.RawMessage `json:"x-mcp-header"`
		}
		if json.Unmarshal(property, &p) != nil {
			continue
		}
		here := append(path[:len(path):len(path)], name)
		if p.Header != nil {
			var header, kind string
			if json.Unmarshal(p.Header, &header) != nil || !token(header) {
				return errors.New("x-mcp-header is no name of a header")
			}
			if json.Unmarshal(p.Type, &kind) != nil || kind != "string" && kind != "integer" && kind != "boolean" {
				return errors.New("x-mcp-header at an argument that is neither string, integer nor boolean")
			}
			if lower := strings.ToLower(header); seen[lower] || len(seen) >= maxBindings {
				return fmt.Errorf("x-mcp-header %q twice, or too many", header)
			} else {
				seen[lower] = true
			}
			*out = append(*out, Binding{Path: here, Header: header})
		}
		if err := bindings(property, here, seen, out); err != nil {
			return err
		}
	}
	return nil
}

func token(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range s {
		if !strings.ContainsRune("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", c) {
			return false
		}
	}
	return true
}

// mirror returns the headers for the arguments of a call. Arguments that are
// absent, null or of another kind have none.
func mirror(bs []Binding, arguments json.RawMessage) http.Header {
	header := http.Header{}
	for _, b := range bs {
		value := arguments
		for _, name := range b.Path {
			var o map[string]json.RawMessage
			if json.Unmarshal(value, &o) != nil {
				o = nil
			}
			value = o[name]
		}
		var v any
		if len(value) == 0 || json.Unmarshal(value, &v) != nil {
			continue
		}
		switch v := v.(type) {
		case string:
			header.Set("Mcp-Param-"+b.Header, headerValue(v))
		case bool:
			header.Set("Mcp-Param-"+b.Header, strconv.FormatBool(v))
		case float64:
			if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
				header.Set("Mcp-Param-"+b.Header, strconv.FormatFloat(v, 'f', -1, 64))
			}
		}
	}
	return header
}

// headerValue writes a value so that a header can carry it: as it is, or in
// Base64 between two markers.
func headerValue(s string) string {
	const before, after = "=?base64?", "?="
	plain := strings.TrimSpace(s) == s && !(strings.HasPrefix(s, before) && strings.HasSuffix(s, after))
	for i := range len(s) {
		plain = plain && s[i] >= 0x20 && s[i] <= 0x7e
	}
	if plain {
		return s
	}
	return before + base64.StdEncoding.EncodeToString([]byte(s)) + after
}
