package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson/strictjsontest"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// FuzzArgumentsAreReadAlike holds what policies see to what the arguments mean to any
// other reader: all of it but nulls, and the order and repetition of elements.
func FuzzArgumentsAreReadAlike(f *testing.F) {
	strictjsontest.Seed(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 4096 {
			return
		}
		want, good := strictjsontest.Read(raw)
		good = good && want.Kind == '{' && strictjson.Check(raw, strictjson.DefaultLimits()) == nil
		got, err := policy.ParseArguments(raw)
		if (err == nil) != good {
			t.Fatalf("%q: got error %v, and it is one strict JSON object: %v", raw, err, good)
		}
		if good && !sees(got.Record(), want) {
			t.Errorf("policies see %v of %s", got.Record(), want)
		}
	})
}

// sees reports whether a policy's value is a JSON value.
func sees(got cedar.Value, want *strictjsontest.Value) bool {
	switch v := got.(type) {
	case cedar.Record:
		n := 0
		for i, name := range want.Names {
			if want.Values[i].Kind == 'n' {
				continue
			}
			inner, has := v.Get(cedar.String(name))
			if n++; !has || !sees(inner, want.Values[i]) {
				return false
			}
		}
		return want.Kind == '{' && v.Len() == n
	case cedar.Set:
		all := slices.DeleteFunc(slices.Clone(want.Values), func(w *strictjsontest.Value) bool { return w.Kind == 'n' })
		for _, w := range all {
			if !slices.ContainsFunc(v.Slice(), func(e cedar.Value) bool { return sees(e, w) }) {
				return false
			}
		}
		return want.Kind == '[' && !slices.ContainsFunc(v.Slice(), func(e cedar.Value) bool {
			return !slices.ContainsFunc(all, func(w *strictjsontest.Value) bool { return sees(e, w) })
		})
	case cedar.Boolean:
		return want.Kind == 't' && bool(v) || want.Kind == 'f' && !bool(v)
	case cedar.Long, cedar.Decimal:
		return want.Kind == '0' && strictjsontest.Number(v.String()) == strictjsontest.Number(want.Text)
	case cedar.String:
		if want.Kind == '0' { // one that is neither; or too small for anybody, and as it is written
			return strings.Contains(string(v), "e") && strictjsontest.Number(string(v)) == strictjsontest.Number(want.Text) || strings.EqualFold(string(v), want.Text)
		}
		return want.Kind == '"' && string(v) == want.Text
	}
	return false
}
