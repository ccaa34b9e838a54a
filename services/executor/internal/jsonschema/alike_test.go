package jsonschema_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson/strictjsontest"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/jsonschema"
)

// FuzzArgumentsAreReadAlike holds what is checked by a schema to what the arguments
// mean to any other reader; numbers that are no whole ones of 64 bits as a float64 has
// them.
func FuzzArgumentsAreReadAlike(f *testing.F) {
	strictjsontest.Seed(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 4096 {
			return
		}
		want, good := strictjsontest.Read(raw)
		good = good && strictjson.Check(raw, strictjson.DefaultLimits()) == nil
		got, names, ok := jsonschema.Plain(raw)
		if ok != good {
			t.Fatalf("%q is taken: %v, and is strict JSON: %v", raw, ok, good)
		}
		if good && (!checks(got, want) || !slices.Equal(names, want.Names)) {
			t.Errorf("checked is %v of %s", got, want)
		}
	})
}

// checks reports whether a value of Go is a JSON value.
func checks(got any, want *strictjsontest.Value) bool {
	switch v := got.(type) {
	case nil:
		return want.Kind == 'n'
	case bool:
		return want.Kind == 't' && v || want.Kind == 'f' && !v
	case string:
		return want.Kind == '"' && v == want.Text
	case int64:
		return want.Kind == '0' && strictjsontest.Number(strconv.FormatInt(v, 10)) == strictjsontest.Number(want.Text)
	case uint64:
		return want.Kind == '0' && strictjsontest.Number(strconv.FormatUint(v, 10)) == strictjsontest.Number(want.Text)
	case float64:
		n, err := strconv.ParseFloat(want.Text, 64)
		return want.Kind == '0' && err == nil && n == v
	case []any:
		return want.Kind == '[' && slices.EqualFunc(v, want.Values, checks)
	case map[string]any:
		for i, name := range want.Names {
			if inner, has := v[name]; !has || !checks(inner, want.Values[i]) {
				return false
			}
		}
		return want.Kind == '{' && len(v) == len(want.Names)
	}
	return false
}
