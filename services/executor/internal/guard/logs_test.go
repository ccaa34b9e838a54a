package guard_test

import (
	_ "embed"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
)

// logs are lines of the kinds that services, kernels, builds and databases write, made
// up for this. Some have words that guards look for.
//
//go:embed testdata/logs.txt
var logs string

// Log text goes through as it is, and no guard notes anything: line by line, and as a
// whole.
func TestLogsAreLeftAlone(t *testing.T) {
	t.Parallel()
	c := chain(t)
	for _, text := range append(strings.Split(logs, "\n"), logs) {
		check := c.For(t.Context(), guard.Call{Tool: "read_log"})
		left, blocked := check.Text(text, "")
		if blocked != nil || left != text || len(check.Findings()) > 0 {
			t.Errorf("%.200q: found %v", text, told(check.Findings()))
		}
	}
}

// What does not belong into logs is taken out of them, and the line stays.
func TestLogsAreCleaned(t *testing.T) {
	t.Parallel()
	c := chain(t)
	for text, want := range map[string]string{
		"04:17 \x1b[36;1mgo test ./...\x1b[0m ok":           "04:17 go test ./... ok",
		"GET /hook?token=" + token + " 200":                 "GET /hook?token=[removed: secret github-pat] 200",
		"op=PAM:authentication res=failed'\x1dUID=\"root\"": "op=PAM:authentication res=failed'UID=\"root\"",
	} {
		check := c.For(t.Context(), guard.Call{Tool: "read_log"})
		if left, blocked := check.Text(text, ""); blocked != nil || left != want {
			t.Errorf("%q: got %q, %v, want %q", text, left, blocked, want)
		}
	}
}
