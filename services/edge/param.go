package edge

import (
	"bytes"
	"math/big"
	"net/textproto"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
)

// headerParam is an argument that clients repeat in a header Mcp-Param-*.
type headerParam struct {
	header string   // canonical
	path   []string // names of properties from the root
}

// headerParams finds the arguments that a schema marks with x-mcp-header. They
// are reached by properties alone; a mark elsewhere counts for nothing.
func headerParams(schema []byte) []headerParam {
	if !bytes.Contains(schema, []byte("x-mcp-header")) {
		return nil
	}
	var found []headerParam
	eachMember(schema, func(name string, value jsontext.Value) {
		if name == "properties" {
			found = appendHeaderParams(found, nil, value)
		}
	})
	return found
}

func appendHeaderParams(found []headerParam, path []string, properties jsontext.Value) []headerParam {
	const deepest = 16
	if len(path) == deepest {
		return found
	}
	eachMember(properties, func(property string, schema jsontext.Value) {
		here := append(path[:len(path):len(path)], property)
		eachMember(schema, func(keyword string, value jsontext.Value) {
			switch {
			case keyword == "x-mcp-header" && value.Kind() == jsontext.KindString:
				if name, err := jsontext.AppendUnquote(nil, value); err == nil && fieldToken(string(name)) {
					found = append(found, headerParam{textproto.CanonicalMIMEHeaderKey("Mcp-Param-" + string(name)), here})
				}
			case keyword == "properties":
				found = appendHeaderParams(found, here, value)
			}
		})
	})
	return found
}

// fieldToken reports whether a name can be a part of the name of a header (RFC
// 9110, 5.6.2).
func fieldToken(name string) bool {
	const longest = 128
	for i := range len(name) {
		c := name[i] | 0x20 // letters in lower case
		if (c < 'a' || c > 'z') && !strings.ContainsRune("0123456789!#$%&'*+-.^_`|~", rune(name[i])) {
			return false
		}
	}
	return name != "" && len(name) <= longest
}

// eachMember calls yield for each member of a JSON object; for anything else it
// does nothing.
func eachMember(object []byte, yield func(name string, value jsontext.Value)) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(object))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != jsontext.KindBeginObject {
		return
	}
	for dec.PeekKind() != jsontext.KindEndObject {
		t, err := dec.ReadToken()
		if err != nil {
			return
		}
		name := t.String()
		value, err := dec.ReadValue()
		if err != nil {
			return
		}
		yield(name, value)
	}
}

// eachElement calls yield for each element of a JSON array.
func eachElement(array []byte, yield func(value jsontext.Value)) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(array))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != jsontext.KindBeginArray {
		return
	}
	for dec.PeekKind() != jsontext.KindEndArray {
		value, err := dec.ReadValue()
		if err != nil {
			return
		}
		yield(value)
	}
}

// checkParams checks the headers that repeat arguments against the arguments.
func (x *exchange) checkParams(params []headerParam) *refusal {
	for _, p := range params {
		value := argumentAt(x.msg.Raw(x.msg.Arguments), p.path)
		header := headerValue(x.r.Header, p.header)
		_, sent := x.r.Header[p.header]
		if value == nil || value.Kind() == jsontext.KindNull {
			if sent {
				return refuse(kindHeader, "A header Mcp-Param repeats an argument that was not given. Leave it out")
			}
			continue
		}
		if !sent {
			return refuse(kindHeader, "A header Mcp-Param is missing. List the tools again to see which arguments need one")
		}
		text, ok := decodeHeader(header)
		if !ok || !sameValue(value, text) {
			return refuse(kindHeader, "A header Mcp-Param differs from its argument. Send the same in both")
		}
	}
	return nil
}

// argumentAt returns the value at a path of names, or nil.
func argumentAt(arguments []byte, path []string) jsontext.Value {
	value := jsontext.Value(arguments)
	for _, want := range path {
		var found jsontext.Value
		eachMember(value, func(name string, v jsontext.Value) {
			if name == want {
				found = v
			}
		})
		if found == nil {
			return nil
		}
		value = found
	}
	return value
}

// sameValue compares an argument with a header: strings as they are, numbers by
// value, so that 42.0 is 42.
func sameValue(value jsontext.Value, header string) bool {
	switch value.Kind() {
	case jsontext.KindString:
		text, err := jsontext.AppendUnquote(nil, value)
		return err == nil && string(text) == header
	case jsontext.KindTrue, jsontext.KindFalse:
		return string(value) == header
	case jsontext.KindNumber:
		if string(value) == header {
			return true
		}
		limit := strictjson.DefaultLimits().NumberBytes
		if len(header) > limit || bytes.ContainsAny([]byte(header), "eE") || bytes.ContainsAny(value, "eE") ||
			jsontext.Value(header).Kind() != jsontext.KindNumber || !jsontext.Value(header).IsValid() {
			return false
		}
		a, ok1 := new(big.Rat).SetString(string(value))
		b, ok2 := new(big.Rat).SetString(header)
		return ok1 && ok2 && a.Cmp(b) == 0
	default:
		return false
	}
}
