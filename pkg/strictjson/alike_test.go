package strictjson_test

import (
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson/strictjsontest"
)

// FuzzReadAlike holds a reader to what JSON means: it takes exactly what is strict JSON
// within its bounds, and makes the same of it.
func FuzzReadAlike(f *testing.F) {
	strictjsontest.Seed(f)
	for _, raw := range suite(f) {
		f.Add(raw)
	}
	var build func(r *strictjson.Reader) (*strictjsontest.Value, error)
	build = func(r *strictjson.Reader) (*strictjsontest.Value, error) {
		v := &strictjsontest.Value{Kind: byte(r.Kind())}
		if v.Kind != '{' && v.Kind != '[' {
			raw, err := r.Scalar()
			switch {
			case err != nil:
			case v.Kind == '"':
				v.Text = strictjson.Text(raw)
			case v.Kind == '0':
				v.Text = string(raw)
			}
			return v, err
		}
		if err := r.Enter(); err != nil {
			return nil, err
		}
		for r.Kind() != '}' && r.Kind() != ']' {
			if v.Kind == '{' {
				raw, err := r.Name()
				if err != nil {
					return nil, err
				}
				v.Names = append(v.Names, strictjson.Text(raw))
			}
			inner, err := build(r)
			if err != nil {
				return nil, err
			}
			v.Values = append(v.Values, inner)
		}
		return v, r.Leave()
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		limits := strictjson.Limits{Depth: 1 << 20, Nodes: 1 << 20, Keys: 1 << 20, StringBytes: 1 << 20, NumberBytes: 1 << 20}
		if len(raw) > 4096 {
			return // within all of these
		}
		want, good := strictjsontest.Read(raw)
		var r strictjson.Reader
		r.Reset(raw, limits)
		got, err := build(&r)
		if err == nil {
			err = r.End()
		}
		if (err == nil) != good {
			t.Fatalf("%q: got error %v, and it is strict JSON: %v", raw, err, good)
		}
		if good && got.String() != want.String() {
			t.Errorf("%q: got %s, want %s", raw, got, want)
		}
	})
}
