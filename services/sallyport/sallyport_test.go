package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
)

// TestMain lets the test binary play the part of the program when
// `dev --processes` starts it again for one role.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		main()
	}
	os.Exit(m.Run())
}

// shapes are the ways in which the whole can run. Whatever holds in one must hold
// in the other.
var shapes = map[string][]string{
	"one process": nil,
	"processes":   {"--processes", "--replicas", "edge=2,quota=3"},
}

// dev starts `sallyport dev` and returns what it printed. It stops when the test
// ends, or when stop is called.
func dev(t *testing.T, dir string, args ...string) (i instance.Instance, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		code := run(ctx, append([]string{"dev", "--json", "--listen", "127.0.0.1:0", "--state", dir}, args...), strings.NewReader(""), w, &stderr)
		_ = w.Close()
		done <- code
	}()
	var rest bytes.Buffer
	d := json.NewDecoder(r)
	err := d.Decode(&i)
	var ended sync.Once
	stop = func() {
		ended.Do(func() {
			cancel()
			_, _ = io.Copy(&rest, io.MultiReader(d.Buffered(), r))
			if code := <-done; code != exitOK {
				t.Errorf("dev ended with %d: %s", code, stderr.String())
			}
			if s := strings.TrimSpace(rest.String()); s != "" {
				t.Errorf("dev --json printed more than one line: %q", s)
			}
		})
	}
	t.Cleanup(stop)
	if err != nil {
		t.Fatalf("dev did not start: %v", err)
	}
	return i, stop
}

// sallyport runs a command against an instance.
func sallyport(t *testing.T, i instance.Instance, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), append([]string{"--state", i.StateDir}, args...), strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String()
}

func TestPeopleCanUseIt(t *testing.T) {
	t.Parallel()
	for shape, args := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			i, _ := dev(t, t.TempDir(), args...)
			steps := []struct {
				name string
				args []string
				code int
				want []string // in what is printed
				not  []string
			}{
				{"a tool answers", []string{"call", "echo", "text=hello"}, exitOK, []string{`"text": "hello"`}, nil},
				{"numbers are numbers", []string{"call", "add_numbers", "a=2", "b=-5"}, exitOK, []string{`"sum": -3`}, nil},
				{"an overflow is an error", []string{"call", "add_numbers", "a=2147483647", "b=1"}, exitNo, []string{"does not fit"}, nil},
				{"a wrong type is explained", []string{"call", "add_numbers", "a=x", "b=1"}, exitNo, []string{"/a must be an integer"}, nil},
				{"a missing argument is explained", []string{"call", "echo"}, exitNo, []string{"text"}, nil},
				{"an unknown argument is explained", []string{"call", "echo", "text=x", "loud=true"}, exitNo, []string{"loud"}, nil},
				{"an unknown tool is told", []string{"call", "nonsense"}, exitNo, []string{"-32602"}, nil},
				{"the operator sees all tools", []string{"tool", "list"}, exitOK, []string{"delete_customer_account", "destructive", "summarize_logs"}, nil},
				{"the intern does not see what he may not call", []string{"tool", "list", "--as", "intern"}, exitOK, []string{"echo"}, []string{"delete_customer_account"}},
				{"the intern cannot delete", []string{"call", "delete_customer_account", "customer_id=3", "--as", "intern"}, exitNo, []string{"destructive-admins-only", "d_"}, nil},
				{"the analyst reads", []string{"call", "get_customer", "customer_id=3", "--as", "analyst"}, exitOK, []string{`"customer_id": 3`}, nil},
				{"the analyst cannot delete", []string{"call", "delete_customer_account", "customer_id=3", "--as", "analyst"}, exitNo, []string{"destructive-admins-only"}, nil},
				{"the admin deletes", []string{"call", "delete_customer_account", "customer_id=3", "reason=test"}, exitOK, []string{`"deleted": true`}, nil},
				{"what is deleted is gone", []string{"call", "get_customer", "customer_id=3", "--as", "analyst"}, exitNo, []string{"no customer"}, nil},
				{"queries are answered", []string{"call", "run_sql_query", "query=SELECT count(*) AS n FROM customers WHERE id = ?", "parameters=[3]", "--as", "analyst"}, exitOK, []string{`"n"`}, nil},
				{"queries that write are refused", []string{"call", "run_sql_query", "query=DELETE FROM customers", "--as", "analyst"}, exitNo, []string{"read"}, nil},
				{"two statements are refused", []string{"call", "run_sql_query", "query=SELECT 1; DROP TABLE customers", "--as", "analyst"}, exitNo, nil, nil},
				{"arguments may be one JSON object", []string{"call", "echo", "--args", `{"text":"x"}`, "-o", "json"}, exitOK, []string{`"resultType"`}, nil},
				{"a pair that is none is a usage error", []string{"call", "echo", "text"}, exitUsage, []string{"name=value"}, nil},
				{"an unknown command is a usage error", []string{"frobnicate"}, exitUsage, []string{"unknown command"}, nil},
				{"a key of nobody is refused", []string{"call", "echo", "text=x", "--key-file", "testdata/nobody.key"}, exitForbidden, []string{"not accepted"}, nil},
				{"nothing at the address is told apart", []string{"call", "echo", "text=x", "--url", "http://127.0.0.1:1/mcp", "--key-file", "testdata/nobody.key"}, exitUnreachable, []string{"cannot reach"}, nil},
			}
			for _, s := range steps {
				code, stdout, stderr := sallyport(t, i, s.args...)
				all := stdout + stderr
				if code != s.code {
					t.Errorf("%s: %v: got exit %d, want %d:\n%s", s.name, s.args, code, s.code, all)
				}
				for _, w := range s.want {
					if !strings.Contains(all, w) {
						t.Errorf("%s: %v: %q is not in\n%s", s.name, s.args, w, all)
					}
				}
				for _, w := range s.not {
					if strings.Contains(all, w) {
						t.Errorf("%s: %v: %q is in\n%s", s.name, s.args, w, all)
					}
				}
			}
		})
	}
}

func TestSixthSummaryWithinAMinuteIsRefusedWithARetryTime(t *testing.T) {
	t.Parallel()
	i, _ := dev(t, t.TempDir())
	for n := 1; n <= 6; n++ {
		// Different people at one address share the limit.
		code, stdout, _ := sallyport(t, i, "call", "summarize_logs", "--as", []string{"admin", "analyst", "intern"}[n%3], "-o", "json")
		if n < 6 {
			if code != exitOK {
				t.Fatalf("summary %d: got exit %d: %s", n, code, stdout)
			}
			continue
		}
		var r struct {
			Meta map[string]struct {
				Reason     string  `json:"reason"`
				Retryable  bool    `json:"retryable"`
				RetryAfter float64 `json:"retry_after_seconds"`
				DecisionID string  `json:"decision_id"`
			} `json:"_meta"`
		}
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
		d := r.Meta["dev.sallyport/decision"]
		if code != exitNo || d.Reason != "QUOTA_EXCEEDED" || !d.Retryable || d.RetryAfter <= 0 || d.RetryAfter > 60 || d.DecisionID == "" {
			t.Errorf("the sixth summary: got exit %d, %+v", code, d)
		}
		awaitEvents(t, i, d.DecisionID, "DECISION:VERDICT_DENY:REASON_QUOTA_EXCEEDED")
	}
}

// awaitEvents waits until the audit record holds, for a decision, the events
// given as "KIND:verdict or status:reason".
func awaitEvents(t *testing.T, i instance.Instance, decision string, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got string
	for ctx.Err() == nil {
		code, stdout, stderr := sallyport(t, i, "audit", "tail", "--decision", decision, "-o", "json")
		if code != exitOK {
			t.Fatalf("audit tail: exit %d: %s", code, stderr)
		}
		got = stdout
		missing := false
		for _, w := range want {
			missing = missing || !holds(stdout, w)
		}
		if !missing {
			return
		}
	}
	t.Errorf("the record of %s has not %v:\n%s", decision, want, got)
}

func holds(lines, want string) bool {
	for line := range strings.SplitSeq(lines, "\n") {
		var e struct {
			Decision *struct{ Verdict, Reason string } `json:"decision"`
			Intent   *struct{}                         `json:"intent"`
			Outcome  *struct{ Status, Reason string }  `json:"outcome"`
		}
		if json.Unmarshal([]byte(line), &e) != nil {
			continue
		}
		var is string
		switch {
		case e.Decision != nil:
			is = "DECISION:" + e.Decision.Verdict + ":" + e.Decision.Reason
		case e.Intent != nil:
			is = "INTENT"
		case e.Outcome != nil:
			is = "OUTCOME:" + e.Outcome.Status + ":" + e.Outcome.Reason
		}
		if strings.TrimRight(is, ":") == want {
			return true
		}
	}
	return false
}

func decisionOf(t *testing.T, result string) string {
	t.Helper()
	var r struct {
		Meta map[string]struct {
			DecisionID string `json:"decision_id"`
		} `json:"_meta"`
	}
	if err := json.Unmarshal([]byte(result), &r); err != nil || r.Meta["dev.sallyport/decision"].DecisionID == "" {
		t.Fatalf("no decision in %s (%v)", result, err)
	}
	return r.Meta["dev.sallyport/decision"].DecisionID
}

func TestEveryCallIsRecorded(t *testing.T) {
	t.Parallel()
	for shape, args := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			i, _ := dev(t, t.TempDir(), args...)
			tests := []struct {
				name string
				args []string
				want []string
			}{
				{"a call that went well", []string{"echo", "text=x"}, []string{"DECISION:VERDICT_ALLOW", "INTENT", "OUTCOME:STATUS_OK"}},
				{"a call that was denied", []string{"delete_customer_account", "customer_id=9", "--as", "intern"}, []string{"DECISION:VERDICT_DENY:REASON_POLICY_DENIED"}},
				{"a call with wrong arguments", []string{"echo", "loud=true"}, []string{"DECISION:VERDICT_ALLOW", "OUTCOME:STATUS_FAILED:REASON_INVALID_ARGUMENTS"}},
				{"a deletion", []string{"delete_customer_account", "customer_id=9"}, []string{"DECISION:VERDICT_ALLOW", "INTENT", "OUTCOME:STATUS_OK"}},
				{"a query that is no read", []string{"run_sql_query", "query=DROP TABLE orders"}, []string{"DECISION:VERDICT_ALLOW", "INTENT", "OUTCOME:STATUS_FAILED:REASON_QUERY_REFUSED"}},
				{"a tool's own error", []string{"get_customer", "customer_id=9"}, []string{"OUTCOME:STATUS_FAILED:REASON_TOOL_ERROR"}},
			}
			for _, tt := range tests {
				_, stdout, _ := sallyport(t, i, append([]string{"call", "-o", "json"}, tt.args...)...)
				awaitEvents(t, i, decisionOf(t, stdout), tt.want...)
			}
		})
	}
}

func TestKeysLiveAndDie(t *testing.T) {
	t.Parallel()
	for shape, args := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			i, _ := dev(t, t.TempDir(), args...)
			code, stdout, stderr := sallyport(t, i, "key", "create", "ci", "--role", "analyst", "--tenant", "acme", "--expires", "1h", "-o", "json")
			var key struct{ ID, Key string }
			if err := json.Unmarshal([]byte(stdout), &key); code != exitOK || err != nil || key.ID == "" || !strings.HasPrefix(key.Key, "sp_dev_"+key.ID+"_") {
				t.Fatalf("key create: exit %d, %v, %s%s", code, err, stdout, stderr)
			}
			ping := func(url string) int {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(url, "/mcp")+"/ping", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-API-Key", key.Key)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = resp.Body.Close() }()
				b, _ := io.ReadAll(resp.Body)
				if resp.StatusCode == http.StatusOK && strings.TrimSpace(string(b)) != `{"message":"pong"}` {
					t.Errorf("ping: got %s", b)
				}
				return resp.StatusCode
			}
			for _, url := range i.MCPURLs {
				if got := ping(url); got != http.StatusOK {
					t.Errorf("ping at %s with a new key: got %d", url, got)
				}
			}
			if code, stdout, stderr := sallyport(t, i, "key", "revoke", key.ID); code != exitOK {
				t.Fatalf("key revoke: exit %d, %s%s", code, stdout, stderr)
			}
			deadline := time.Now().Add(10 * time.Second)
			for _, url := range i.MCPURLs {
				for ping(url) != http.StatusUnauthorized {
					if time.Now().After(deadline) {
						t.Fatalf("%s still accepts a revoked key", url)
					}
				}
			}
			if _, stdout, _ := sallyport(t, i, "key", "list"); !strings.Contains(stdout, "revoked") || strings.Contains(stdout, key.Key) {
				t.Errorf("key list: got\n%s", stdout)
			}
			for _, bad := range [][]string{
				{"key", "revoke", "0000000000"},
				{"key", "create", "x", "--role", "nobody"},
				{"key", "create", "demo admin", "--role", "admin"},
				{"key", "create", "x", "--role", "admin", "--expires", "9999d"},
			} {
				if code, _, stderr := sallyport(t, i, bad...); code != exitNo || stderr == "" {
					t.Errorf("%v: got exit %d, %q", bad, code, stderr)
				}
			}
		})
	}
}

func TestStateSurvivesARestart(t *testing.T) {
	t.Parallel()
	for shape, args := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			first, stop := dev(t, dir, args...)
			_, stdout, _ := sallyport(t, first, "call", "delete_customer_account", "customer_id=5", "-o", "json")
			decision := decisionOf(t, stdout)
			stop()
			if code, _, stderr := sallyport(t, first, "key", "list"); code != exitUnreachable || !strings.Contains(stderr, "sallyport dev") {
				t.Errorf("key list without an instance: got exit %d, %q", code, stderr)
			}
			second, _ := dev(t, dir, args...)
			if first.Keys["admin"] != second.Keys["admin"] {
				t.Error("the demo keys have changed")
			}
			if code, _, _ := sallyport(t, second, "call", "get_customer", "customer_id=5"); code != exitNo {
				t.Error("what was deleted is back")
			}
			awaitEvents(t, second, decision, "DECISION:VERDICT_ALLOW", "INTENT", "OUTCOME:STATUS_OK")
		})
	}
}

func TestOneInstancePerState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dev(t, dir)
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"dev", "--state", dir}, strings.NewReader(""), &out, &errOut); code != exitNo || !strings.Contains(errOut.String(), "another sallyport is running") {
		t.Errorf("got exit %d, %q", code, errOut.String())
	}
}

func TestBannerIsShort(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	banner(&b, instance.Instance{MCPURL: "http://127.0.0.1:8080/mcp", Keys: map[string]string{}})
	if n := strings.Count(b.String(), "\n"); n > 15 {
		t.Errorf("the banner has %d lines; a longer one is not read", n)
	}
}
