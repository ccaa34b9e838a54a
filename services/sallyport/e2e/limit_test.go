//go:build e2e

package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// TestLimitOfAddress calls a limited tool once with each client that can run
// long, all from one address with the configuration as it is shipped. They share
// the limit, and claims of being somebody else, which only trusted proxies may
// make, do not help.
func TestLimitOfAddress(t *testing.T) {
	ready := start(t, launch.Options{})
	all := slices.DeleteFunc(clients(), func(c client) bool { return strings.HasPrefix(c.name, "inspector") })
	keys := []string{ready.Keys.Intern, ready.Keys.Analyst, ready.Keys.Admin}
	for i, c := range all {
		s := scenario{op: opCall, want: want{decision: map[string]any{"verdict": "ALLOW"}}}
		if i >= 5 {
			s.want = want{isError: true, text: []string{"Retry in"}, decision: overLimit(), wait: true}
		}
		got, err := c.open(t).do(t.Context(), instruction{
			Op: opCall, URL: ready.MCPURL, Key: keys[i%len(keys)], Era: c.era, Tool: "summarize_logs",
			Headers: map[string]string{"X-Forwarded-For": fmt.Sprintf("203.0.113.%d", i+1)},
		})
		if err != nil {
			t.Fatal(err)
		}
		run{client: c}.compare(t, s, got)
	}
	if len(all) != 8 {
		t.Errorf("got %d clients, want 8: five calls that pass and three that do not", len(all))
	}
}
