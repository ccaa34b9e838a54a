//go:build cluster

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Five a month are five, through whichever edge, with three quota processes that
// are killed one after the other; and what operators see is what was called.
func TestAQuotaHoldsOverQuotaProcesses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sallyport.yaml")
	err := os.WriteFile(file, []byte(`
roles:
  quota:
    rules:
      - {id: logs-month, match: {tool: summarize_logs}, key: [tenant], quota: {amount: 5, per: month}}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	i, _ := dev(t, t.TempDir(), "--config", file, "--processes", "--replicas", "edge=2,quota=3")
	key := filepath.Join(t.TempDir(), "analyst.key")
	if err := os.WriteFile(key, []byte(i.Keys["analyst"]), 0o600); err != nil {
		t.Fatal(err)
	}
	call := func(n int, tool, arg string) (code int, out string) {
		t.Helper()
		code, stdout, stderr := sallyport(t, i, "call", tool, arg, "--key-file", key, "--url", i.MCPURLs[n%2])
		return code, stdout + stderr
	}
	allowed, refused := 0, 0
	for round, victim := range []string{"", "quota-1", "quota-2"} {
		for _, p := range i.Processes {
			if p.Name != victim {
				continue
			}
			process, err := os.FindProcess(p.PID)
			if err != nil {
				t.Fatal(err)
			}
			if err := process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		for decided := 0; decided < 3; {
			code, out := call(decided, "summarize_logs", "source=app.log")
			switch {
			case code == exitOK:
				allowed++
				decided++
			case strings.Contains(out, "logs-month"):
				refused++
				decided++
			case time.Since(began) > time.Minute:
				t.Fatalf("round %d: no decisions for a minute: exit %d: %s", round, code, out)
			}
		}
	}
	if allowed != 5 || refused != 4 {
		t.Errorf("allowed %d and refused %d, want 5 and 4", allowed, refused)
	}
	code, out, stderr := sallyport(t, i, "quota", "usage", "--json")
	if code != exitOK || !strings.Contains(out, `"spent":5`) {
		t.Errorf("quota usage: exit %d: %s%s", code, out, stderr)
	}
}
