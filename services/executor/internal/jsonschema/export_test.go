package jsonschema

import "github.com/sallyport-mcp/sallyport/pkg/strictjson"

// Plain is what is checked of a call's arguments, and the names of the object in order;
// false if they cannot be read.
func Plain(raw []byte) (plain any, names []string, ok bool) {
	v, bad := decode(raw, strictjson.DefaultLimits())
	if bad != nil {
		return nil, nil, false
	}
	return v.plain, v.names, true
}
