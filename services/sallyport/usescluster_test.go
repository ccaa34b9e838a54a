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

// When the executor is killed in the middle of a call nobody knows what the tool has
// used, so its estimate is charged, and that is on record.
func TestAnEstimateIsChargedWhenTheExecutorIsKilled(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sallyport.yaml")
	err := os.WriteFile(file, []byte(`
roles:
  quota:
    rules:
      - {id: rows-month, key: [user], quota: {amount: 1000, per: month, unit: rows}}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	i, _ := dev(t, t.TempDir(), "--config", file, "--processes")
	const slow = "query=WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c"
	ended := make(chan string, 1)
	go func() {
		_, out, stderr := sallyport(t, i, "call", "run_sql_query", slow, "-o", "json")
		ended <- out + stderr
	}()
	until := func(want string, args ...string) string {
		t.Helper()
		began := time.Now()
		for {
			if _, out, _ := sallyport(t, i, args...); strings.Contains(out, want) {
				return out
			} else if time.Since(began) > time.Minute {
				t.Fatalf("%v: got %s, want %s in it", args, out, want)
			}
			select {
			case answer := <-ended:
				t.Fatalf("the call has ended already: %s", answer)
			default:
			}
		}
	}
	until(`"reserved":100`, "quota", "usage", "--json")
	until(`intent`, "audit", "tail", "--tool", "run_sql_query", "-o", "json") // it is being called
	for _, p := range i.Processes {
		if p.Name != "executor" {
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
	answer := <-ended
	if !strings.Contains(answer, `"used":{"rows":100},"used_estimated":["rows"]`) {
		t.Errorf("got %s, want the estimate in it", answer)
	}
	ended = nil
	if _, out, _ := sallyport(t, i, "quota", "usage", "--json"); !strings.Contains(out, `"reserved":0`) || !strings.Contains(out, `"spent":100`) {
		t.Errorf("quota usage: %s", out)
	}
	_, id, _ := strings.Cut(answer, `"decision_id":"`)
	id, _, _ = strings.Cut(id, `"`)
	until("rows 100, as its definition expects", "why", id)
}
