package guard_test

import (
	"slices"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson/strictjsontest"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
)

// FuzzArgumentsAreReadAlike holds what guards are shown of a call's arguments to what
// these mean to any other reader: each name and string, in order.
func FuzzArgumentsAreReadAlike(f *testing.F) {
	strictjsontest.Seed(f)
	off := guard.Modes{Arguments: guard.Off, Results: guard.Off}
	j := &judge{}
	c := external(f, j, modes(guard.Observe, guard.Observe), func(c *guard.Config) {
		d := &c.Defaults
		d.Controls, d.Invisibles, d.Secrets, d.Personal, d.Links, d.Injection = off, off, off, off, off, off
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		want, good := strictjsontest.Read(raw)
		if !good || len(raw) > 4096 || strictjson.Check(raw, strictjson.DefaultLimits()) != nil {
			return // which is refused before
		}
		j.asked = nil
		if b := c.For(t.Context(), guard.Call{Tool: "t"}).Arguments(raw); b != nil {
			t.Fatalf("%q: blocked by %v", raw, b)
		}
		var got []string
		for _, req := range j.asked {
			for _, p := range req.GetParts() {
				got = append(got, p.GetText())
			}
		}
		texts := slices.DeleteFunc(want.Texts(), func(s string) bool { return s == "" })
		if !slices.Equal(got, texts) {
			t.Errorf("%q: guards see %q, want %q", raw, got, texts)
		}
	})
}
