package executor_test

import (
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/alloctest"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
)

// A call with the default guards, labels, and 300 bytes there and back allocates no more
// than this. Allocations do not depend on the machine; they were 263 when values were
// looked for with a general JSON reader and expressions of words.
func TestCallIsCheap(t *testing.T) {
	untrusted := func(c *executor.Config) {
		c.Joining = map[string]joining.Config{"basics": {Default: joining.Options{Trust: "untrusted"}}}
		c.Envelope.Off = false
	}
	named := func(g *authv1.Grant) { g.Origin.ContextSource = authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT }
	for _, tt := range []struct {
		name      string
		text      string
		configure func(*executor.Config)
		grant     func(*authv1.Grant)
		most      float64
	}{
		{"content of the company", strings.Repeat("The quick brown fox jumps over the lazy dog, at 9:30. ", 6), func(*executor.Config) {}, func(*authv1.Grant) {}, 120},
		{"content of anybody in a context with a name", strings.Repeat("The quick brown fox jumps over the lazy dog, at 9:30. ", 6), untrusted, named, 123},
		{"values in it", strings.Repeat("Order A1B2-C3D4-77 by Ann@Example.org, see https://shop.example/a?b=c. ", 4), untrusted, named, 160},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := direct(t, tt.configure)
			req, stream := granted(t, "echo", `{"text":"`+tt.text+`"}`, tt.grant), &sink{ctx: t.Context()}
			least := alloctest.Least(func() {
				if err := svc.Call(req, stream); err != nil {
					t.Fatal(err)
				}
			})
			if r := stream.last.GetResult(); r.GetRefusal() != nil || r.GetProvenance() == nil {
				t.Fatal(stream.last)
			}
			t.Logf("%v allocations", least)
			if least > tt.most {
				t.Errorf("got %v allocations, want at most %v", least, tt.most)
			}
		})
	}
}
