package guard

import (
	"testing"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// A text in which something is found however often it is taken out is not passed on.
func TestEndlessFindingsAreBlocked(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Defaults.Links.Results = Redact
	c, err := New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	c.finders[4] = func(string, string) []span.Found {
		asked++
		return []span.Found{{End: 1, Rule: "x", Instead: "x"}}
	}
	if _, blocked := c.For(t.Context(), Call{Tool: "t"}).Text("x", "/x"); blocked == nil || asked > 8 {
		t.Errorf("blocked = %+v after %d rounds", blocked, asked)
	}
}

// A guard that panics costs the call if it may block or redact. It is tested from
// within, for none that there is panics.
func TestPanicFailsClosed(t *testing.T) {
	t.Parallel()
	for mode, blocks := range map[Mode]bool{Off: false, Observe: false, Redact: true, Block: true} {
		cfg := DefaultConfig()
		cfg.Defaults.Links.Results = mode
		c, err := New(cfg, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.finders[4] = func(string, string) []span.Found { panic("no") }
		check := c.For(t.Context(), Call{Tool: "t"})
		_, blocked := check.Text("hello", "/x")
		if (blocked != nil) != blocks {
			t.Errorf("%s: blocked = %+v", mode, blocked)
		}
		if mode != Off && (len(check.Findings()) != 1 || check.Findings()[0].GetRule() != "panic") {
			t.Errorf("%s: findings = %v", mode, check.Findings())
		}
	}
}
