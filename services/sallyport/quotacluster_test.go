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

// Five a minute are five, through whichever edge, with three quota processes of
// which one is killed.
func TestALimitHoldsOverQuotaProcesses(t *testing.T) {
	t.Parallel()
	i, _ := dev(t, t.TempDir(), "--processes", "--replicas", "edge=2,quota=3")
	key := filepath.Join(t.TempDir(), "analyst.key")
	if err := os.WriteFile(key, []byte(i.Keys["analyst"]), 0o600); err != nil {
		t.Fatal(err)
	}
	call := func(n int, tool, arg string) (code int, out string) {
		t.Helper()
		code, stdout, stderr := sallyport(t, i, "call", tool, arg, "--key-file", key, "--url", i.MCPURLs[n%2])
		return code, stdout + stderr
	}
	for n := range 2 {
		if code, out := call(n, "summarize_logs", "source=app.log"); code != exitOK {
			t.Fatalf("call %d: exit %d: %s", n, code, out)
		}
	}
	quotas := 0
	for _, p := range i.Processes {
		if strings.HasPrefix(p.Name, "quota-") {
			quotas++
		}
		if p.Name == "quota-2" {
			process, err := os.FindProcess(p.PID)
			if err != nil {
				t.Fatal(err)
			}
			if err := process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if quotas != 3 {
		t.Fatalf("got %d quota processes, want 3", quotas)
	}
	killed := time.Now()
	for good := 0; good < 20; { // until every quota process decides again
		code, out := call(good, "echo", "text=x")
		if good++; code != exitOK {
			good = 0
		}
		if time.Since(killed) > 30*time.Second {
			t.Fatalf("no decisions 30 s after a kill: %s", out)
		}
	}
	allowed := 2
	for n := range 8 {
		switch code, out := call(n, "summarize_logs", "source=app.log"); {
		case code == exitOK:
			allowed++
		case !strings.Contains(out, "5 per minute"):
			t.Errorf("call %d: exit %d: %s", n, code, out)
		}
	}
	if allowed != 5 {
		t.Errorf("allowed %d of 5 a minute", allowed)
	}
}
