package taint_test

import (
	"slices"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson/strictjsontest"
	"github.com/sallyport-mcp/sallyport/pkg/taint"
)

// FuzzArgumentsAreReadAlike holds what is looked for in a call's arguments to what
// these mean to any other reader: values of each argument, and the arguments' names.
func FuzzArgumentsAreReadAlike(f *testing.F) {
	strictjsontest.Seed(f)
	f.Add([]byte(`{"to":"a@\u0065vil.example","c":[{"x\u0040y.example":12345678901}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, good := strictjsontest.Read(raw)
		if !good || all.Kind != '{' || len(raw) > 4096 || strictjson.Check(raw, strictjson.DefaultLimits()) != nil {
			return // which is refused before
		}
		var want, wanted []string
		for i, name := range all.Names {
			if all.Values[i].Kind != 'n' {
				wanted = append(wanted, name)
			}
			for _, s := range texts(all.Values[i]) {
				taint.Values(s, taint.Argument, func(v []byte) bool { want = append(want, name+" "+string(v)); return true })
			}
		}
		slices.Sort(wanted)
		names, err := taint.ArgumentNames(raw)
		if err != nil || !slices.Equal(names, wanted) {
			t.Errorf("%q: got the names %q, %v, want %q", raw, names, err, wanted)
		}
		var got []string
		err = new(taint.Finder).Arguments(raw, func(name string, v []byte) bool { got = append(got, name+" "+string(v)); return true })
		if missing := slices.DeleteFunc(want, func(w string) bool { return slices.Contains(got, w) }); err != nil || len(missing) > 0 {
			t.Errorf("%q: got %q, %v, without %q", raw, got, err, missing)
		}
	})
}

// texts are the strings, numbers and names in a value.
func texts(v *strictjsontest.Value) (all []string) {
	if v.Kind == '"' || v.Kind == '0' {
		all = append(all, v.Text)
	}
	for i, inner := range v.Values {
		if v.Kind == '{' {
			all = append(all, v.Names[i])
		}
		all = append(all, texts(inner)...)
	}
	return all
}
