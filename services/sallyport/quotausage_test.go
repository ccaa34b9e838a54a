package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

// What a tool reports is what operators see; a call that is refused or not made costs
// nothing, and why tells what one has used.
func TestQuotaOfRows(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sallyport.yaml")
	err := os.WriteFile(file, []byte(`
roles:
  quota:
    rules:
      - {id: rows-month, key: [user], quota: {amount: 105, per: month, unit: rows}}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	i, _ := dev(t, t.TempDir(), "--config", file)
	usage := func() string {
		t.Helper()
		code, out, stderr := sallyport(t, i, "quota", "usage", "--json")
		var rows []struct{ Spent, Reserved, Overdraft uint64 }
		if err := json.Unmarshal([]byte(out), &rows); code != exitOK || err != nil || len(rows) > 1 {
			t.Fatalf("quota usage: exit %d, %v: %s%s", code, err, out, stderr)
		}
		if len(rows) == 0 {
			return "nothing"
		}
		return fmt.Sprintf("%d spent, %d reserved, %d over", rows[0].Spent, rows[0].Reserved, rows[0].Overdraft)
	}
	type meta struct {
		Decision struct {
			ID   string            `json:"decision_id"`
			Rule string            `json:"rule"`
			Used map[string]uint64 `json:"used"`
		} `json:"dev.sallyport/decision"`
	}
	steps := []struct {
		name  string
		args  []string
		code  int
		used  map[string]uint64
		rule  string
		usage string
		why   []string
	}{
		{"rows are counted", []string{"run_sql_query", "query=SELECT id FROM customers LIMIT 3"}, exitOK, map[string]uint64{"rows": 3}, "", "3 spent, 0 reserved, 0 over", []string{"used       rows 3\n"}},
		{"what the tool refuses has none", []string{"run_sql_query", "query=DELETE FROM customers"}, exitNo, map[string]uint64{"rows": 0}, "", "3 spent, 0 reserved, 0 over", []string{"used       rows 0\n"}},
		{"what is not called costs nothing", []string{"run_sql_query", "quary=x"}, exitNo, nil, "", "3 spent, 0 reserved, 0 over", []string{"INVALID_ARGUMENTS"}},
		{"another tool uses none", []string{"echo", "text=x"}, exitOK, nil, "", "3 spent, 0 reserved, 0 over", nil},
		{"as far as the estimate fits", []string{"run_sql_query", "query=SELECT id FROM customers LIMIT 5"}, exitOK, map[string]uint64{"rows": 5}, "", "8 spent, 0 reserved, 0 over", nil},
		{"and then no more", []string{"run_sql_query", "query=SELECT id FROM customers LIMIT 1"}, exitNo, nil, "rows-month", "8 spent, 0 reserved, 0 over", []string{"QUOTA_EXCEEDED", "rows-month: 105 rows"}},
	}
	for _, s := range steps {
		code, out, stderr := sallyport(t, i, append([]string{"call", "-o", "json"}, s.args...)...)
		var result struct {
			Meta meta `json:"_meta"`
		}
		if err := json.Unmarshal([]byte(out), &result); err != nil || code != s.code {
			t.Fatalf("%s: exit %d, %v: %s%s", s.name, code, err, out, stderr)
		}
		d := result.Meta.Decision
		if fmt.Sprint(d.Used) != fmt.Sprint(s.used) || d.Rule != s.rule || usage() != s.usage {
			t.Errorf("%s: got %+v and %s, want %v, rule %q and %s: %s", s.name, d, usage(), s.used, s.rule, s.usage, out)
		}
		if s.why == nil {
			continue
		}
		for _, want := range s.why {
			began := time.Now()
			for text := ""; !strings.Contains(text, want); { // how it ended may not be in the index yet
				if _, text, _ = sallyport(t, i, "why", d.ID); time.Since(began) > time.Minute {
					t.Fatalf("%s: why tells %q, want %q in it", s.name, text, want)
				}
			}
		}
	}
}
