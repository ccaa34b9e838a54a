package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is called is counted for good: also when everything was stopped in between.
func TestQuotaUsage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sallyport.yaml")
	err := os.WriteFile(file, []byte(`
roles:
  quota:
    rules:
      - {id: echo-month, match: {tool: echo}, key: [user], quota: {amount: 3, per: month}}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	allowed := 0
	for range 2 {
		i, stop := dev(t, dir, "--config", file)
		for range 2 {
			switch code, out, stderr := sallyport(t, i, "call", "echo", "text=x"); {
			case code == exitOK:
				allowed++
			case !strings.Contains(out+stderr, "echo-month"):
				t.Errorf("call: exit %d: %s%s", code, out, stderr)
			}
		}
		code, out, stderr := sallyport(t, i, "quota", "usage")
		fields := strings.Fields(strings.Split(out+"\n", "\n")[1])
		if code != exitOK || len(fields) != 10 || fields[0] != "echo-month" || fields[5] != "3" || fields[6] != []string{"", "", "2", "3"}[allowed] {
			t.Errorf("quota usage: exit %d: %s%s", code, out, stderr)
		}
		if code, out, _ := sallyport(t, i, "quota", "usage", "--json", "--rule", "echo-month"); code != exitOK || !strings.Contains(out, `"limit":3,"overdraft":0,"reserved":0`) {
			t.Errorf("quota usage --json: exit %d: %s", code, out)
		}
		if code, out, _ := sallyport(t, i, "quota", "usage", "--json", "--at", "2020-02-29"); code != exitOK || strings.TrimSpace(out) != "[]" {
			t.Errorf("quota usage of long ago: exit %d: %s", code, out)
		}
		if code, _, stderr := sallyport(t, i, "quota", "usage", "--rule", "none"); code != exitNo || !strings.Contains(stderr, "there are: echo-month") {
			t.Errorf("quota usage of no rule: exit %d: %s", code, stderr)
		}
		if code, _, _ := sallyport(t, i, "quota", "usage", "--at", "yesterday"); code != exitUsage {
			t.Errorf("quota usage of no time: exit %d", code)
		}
		stop()
	}
	if allowed != 3 {
		t.Errorf("allowed %d of 3 a month", allowed)
	}
}
