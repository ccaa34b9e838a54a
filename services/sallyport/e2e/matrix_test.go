//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// patience bounds one cell of the matrix.
const patience = 90 * time.Second

const modern, legacy = "2026-07-28", "2025-11-25"

// config trusts a proxy on loopback, so that each client can have an address,
// and hence limits, of its own.
const config = `
roles:
  edge:
    trusted_proxies: ["127.0.0.1/32"]
`

// limits are those of the default configuration, but for the one of a key: all
// clients share the demo keys, and a fast machine gets through them in a minute.
const limits = `
  quota:
    rules:
      - {id: per-ip-calls, match: {action: tools/call}, key: [ip], limit: 120/minute}
      - {id: per-key, match: {key: "*"}, key: [key], limit: 60000/minute}
      - {id: summarize-logs-per-ip, match: {tool: summarize_logs}, key: [ip], limit: 5/minute}
      - {id: per-ip-other, match: {action: "!tools/call"}, key: [ip], limit: 600/minute}
`

// client is a column of the matrix.
type client struct {
	name     string
	revision string // that it has to agree on
	era      string // what its driver is told
	open     func(*testing.T) driver
}

func clients() []client {
	v1 := func(t *testing.T) driver { return startNode(t, "client-v1.mjs") }
	v2 := func(t *testing.T) driver { return startNode(t, "client-v2.mjs") }
	remote := func(t *testing.T) driver { return startNode(t, "client-remote.mjs") }
	return []client{
		{"v1", legacy, "", v1},
		{"v2-legacy", legacy, "legacy", v2},
		{"v2-auto", modern, "auto", v2},
		{"v2-pinned", modern, modern, v2},
		{"inspector-legacy", legacy, "", func(t *testing.T) driver { return newInspector(t, "legacy") }},
		{"inspector-modern", modern, "", func(t *testing.T) driver { return newInspector(t, "modern") }},
		{"go-modern", modern, modern, func(*testing.T) driver { return goSDK{} }},
		{"go-legacy", legacy, legacy, func(*testing.T) driver { return goSDK{revision: legacy} }},
		{"remote-legacy", legacy, "legacy", remote},
		{"remote-modern", modern, modern, remote},
	}
}

// TestClients runs every scenario with every client, against one process and
// against separate ones with two edges.
func TestClients(t *testing.T) {
	for _, setup := range []struct {
		name  string
		args  []string
		edges int
	}{
		{"one process", nil, 1},
		{"processes", []string{"--processes", "--replicas", "edge=2"}, 2},
	} {
		t.Run(setup.name, func(t *testing.T) {
			ready := start(t, launch.Options{Config: config + limits, Args: setup.args})
			if got := len(ready.MCPURLs); got != setup.edges {
				t.Fatalf("mcp_urls: got %d, want %d", got, setup.edges)
			}
			everything := listing()[1]
			for _, url := range ready.MCPURLs {
				in := instruction{Op: opList, URL: url, Key: ready.Keys.Admin}
				if got, _ := (goSDK{}).do(t.Context(), in); !slices.Equal(got.Tools, everything.want.tools) {
					t.Errorf("as soon as it is ready, at %s: got %+v, want the tools %v", url, got, everything.want.tools)
				}
			}
			cells := &cells{failed: make(map[string]bool)}
			t.Cleanup(func() { cells.print(setup.name) })
			for n, c := range clients() {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					d := c.open(t)
					for i, s := range scenarios(n) {
						t.Run(s.name, func(t *testing.T) {
							defer func() { cells.set(c.name, s.name, t.Failed()) }()
							run{client: c, number: n, driver: d, ready: ready, turn: i}.check(t, s)
						})
					}
				})
			}
		})
	}
}

// run is what one cell needs.
type run struct {
	client client
	number int
	driver driver
	ready  launch.Ready
	turn   int
}

func (r run) check(t *testing.T, s scenario) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range s.before {
		got, err := r.driver.do(ctx, r.instruct(s, i))
		if err != nil {
			t.Fatal(err)
		}
		if got.Failure != nil || got.Result == nil || got.Result.IsError {
			t.Fatalf("call %d of %d before: got %s, want success", i+1, s.before, describe(got))
		}
	}
	got, err := r.driver.do(ctx, r.instruct(s, s.before))
	if err != nil {
		t.Fatal(err)
	}
	failure, fails := s.instead[r.client.name]
	switch {
	case fails && got.Failure == nil:
		t.Fatalf("got %s, want the failure %q", describe(got), failure)
	case fails:
		if !strings.Contains(got.Failure.String(), failure) {
			t.Errorf("failure: got %q, want %q in it", got.Failure, failure)
		}
	case got.Failure != nil:
		t.Fatalf("got the failure %q, want a result", got.Failure)
	default:
		r.compare(t, s, got)
	}
}

// instruct spreads a client's requests over all edges.
func (r run) instruct(s scenario, i int) instruction {
	address := s.address
	if address == "" {
		address = r.address()
	}
	urls := r.ready.MCPURLs
	return instruction{
		Op: s.op, URL: urls[(r.turn+i)%len(urls)], Key: s.key(r.ready.Keys), Era: r.client.era,
		Tool: s.tool, Arguments: s.args, Headers: map[string]string{"X-Forwarded-For": address},
	}
}

// address is where a client's calls come from, if a scenario does not say.
func (r run) address() string { return fmt.Sprintf("192.0.2.%d", 1+r.number) }

func (r run) compare(t *testing.T, s scenario, got outcome) {
	w := s.want
	if w.protocol && got.Protocol != r.client.revision {
		t.Errorf("protocol: got %q, want %q", got.Protocol, r.client.revision)
	}
	if s.op == opList {
		if diff := cmp.Diff(w.tools, got.Tools); diff != "" {
			t.Errorf("tools (-want +got):\n%s", diff)
		}
	}
	if s.op != opCall && s.op != opProgress {
		return
	}
	if s.op == opProgress {
		compareProgress(t, w.progress, got.Progress)
	}
	if got.Result == nil {
		t.Fatalf("got %s, want a result", describe(got))
	}
	if got.Result.IsError != w.isError {
		t.Errorf("isError: got %t, want %t: %s", got.Result.IsError, w.isError, describe(got))
	}
	if got.Result.text() == "" {
		t.Error("got no text, want some for the model")
	}
	for _, part := range w.text {
		if !strings.Contains(got.Result.text(), part) {
			t.Errorf("text: got %q, want %q in it", got.Result.text(), part)
		}
	}
	for name, value := range w.structured {
		if diff := cmp.Diff(value, got.Result.Structured[name]); diff != "" {
			t.Errorf("structuredContent.%s (-want +got):\n%s", name, diff)
		}
	}
	if w.decision != nil {
		compareDecision(t, w, got.Result)
	}
}

var decisionID = regexp.MustCompile(`^d_[0-9A-HJKMNP-TV-Z]{26}$`)

// compareDecision checks the machine's part of an answer. It has to come through
// every client whole.
func compareDecision(t *testing.T, w want, got *result) {
	t.Helper()
	decision, ok := got.Meta["dev.sallyport/decision"].(map[string]any)
	if !ok {
		t.Fatalf("_meta: got %v, want dev.sallyport/decision in it", got.Meta)
	}
	decision = maps.Clone(decision)
	id, _ := decision["decision_id"].(string)
	if !decisionID.MatchString(id) {
		t.Errorf("decision_id: got %q, want d_ and a ULID", id)
	}
	if decision["verdict"] == "DENY" && !strings.Contains(got.text(), id) {
		t.Errorf("text: got %q, want the decision id %s in it", got.text(), id)
	}
	delete(decision, "decision_id")
	if w.wait {
		wait, _ := decision["retry_after_seconds"].(float64)
		if wait < 1 || wait > 60 {
			t.Errorf("retry_after_seconds: got %v, want 1 to 60", decision["retry_after_seconds"])
		}
		if part := fmt.Sprintf("%v s", wait); !strings.Contains(got.text(), part) {
			t.Errorf("text: got %q, want %q in it", got.text(), part)
		}
		delete(decision, "retry_after_seconds")
	}
	if diff := cmp.Diff(w.decision, decision); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
}

func describe(o outcome) string {
	switch {
	case o.Failure != nil:
		return "the failure " + o.Failure.String()
	case o.Result != nil:
		return fmt.Sprintf("isError=%t %q %v", o.Result.IsError, o.Result.text(), o.Result.Structured)
	}
	return fmt.Sprintf("%+v", o)
}

// cells collects what became of each cell.
type cells struct {
	mu     sync.Mutex
	rows   []string
	failed map[string]bool
}

func (c *cells) set(client, scenario string, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.rows, scenario) {
		c.rows = append(c.rows, scenario)
	}
	c.failed[client+"/"+scenario] = failed
}

func (c *cells) print(title string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\n"+title)
	for _, client := range clients() {
		fmt.Fprint(w, "\t"+client.name)
	}
	fmt.Fprintln(w)
	for _, row := range c.rows {
		fmt.Fprint(w, row)
		for _, client := range clients() {
			cell := "-"
			if failed, ran := c.failed[client.name+"/"+row]; failed {
				cell = "FAIL"
			} else if ran {
				cell = "ok"
			}
			fmt.Fprint(w, "\t"+cell)
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // there is nowhere to report it
}
