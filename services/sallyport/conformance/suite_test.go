//go:build conformance

package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience bounds one run of the suite, which takes a few seconds when all is well.
const patience = 4 * time.Minute

// spread is how many connections each of several edges must get at least.
const spread = 50

// TestSuite runs the suite for each revision against each way to run Sallyport.
func TestSuite(t *testing.T) {
	table := newTable()
	t.Cleanup(func() { table.print(os.Stdout) })
	for _, setup := range []struct {
		name  string
		args  []string
		edges int
	}{
		{"one process", nil, 1},
		{"two edges", []string{"--processes", "--replicas", "edge=2"}, 2},
	} {
		t.Run(setup.name, func(t *testing.T) {
			s := start(t, setup.args, setup.edges)
			for _, r := range revisions() {
				t.Run(r.name, func(t *testing.T) {
					column := r.name + ", " + setup.name
					demanded, outcomes := r.demanded(t), run(t, s, r)
					table.add(column, demanded, outcomes)
					table.total(column, judge(t, r, demanded, outcomes), r.required)
				})
			}
			if s.front == nil {
				return
			}
			for i, backend := range s.front.backends {
				if n := s.front.taken[i].Load(); n < spread {
					t.Errorf("edge %s got %d connections, want %d at least: the suite must be spread over all edges", backend, n, spread)
				}
			}
		})
	}
}

// run runs the suite once.
func run(t *testing.T, s system, r revision) map[string]outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, node(t), "--import", "./inject.mjs", suite+"/dist/index.js",
		"server", "--url", s.url, "--requirements", r.name, "--output-dir", dir)
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "CONFORMANCE_BEARER="+s.bearer, "NODE_OPTIONS=")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && (!failed || ctx.Err() != nil) {
		t.Fatalf("the suite did not run to its end: %v\n%s", err, tail(output.String()))
	}
	// That it failed, the results tell better.
	outcomes := read(t, dir)
	if len(outcomes) == 0 {
		t.Fatalf("the suite has left no results (%v)\n%s", err, tail(output.String()))
	}
	for name, o := range outcomes {
		if !o.ended {
			t.Logf("%s broke off; the suite says:\n%s", name, said(output.String(), name))
		}
	}
	return outcomes
}

// judge fails the test for each scenario that must pass and does not, and returns
// how many of those have passed that the suite itself requires.
func judge(t *testing.T, r revision, demanded []string, outcomes map[string]outcome) (required int) {
	t.Helper()
	for _, name := range demanded {
		o := outcomes[name]
		complaints := strings.Join(o.complaints, "\n  ")
		if !o.good() {
			t.Errorf("%s: %d checks passed, %d failed\n  %s", name, o.passed, o.failed, complaints)
			continue
		}
		if complaints != "" {
			t.Logf("%s passed, with warnings\n  %s", name, complaints)
		}
		if !slices.Contains(r.also, name) {
			required++
		}
	}
	return required
}

// tail returns the end of what a program said.
func tail(s string) string { return s[max(0, len(s)-4<<10):] }

// said returns what the suite said while it ran a scenario.
func said(output, scenario string) string {
	_, after, _ := strings.Cut(output, "=== Running scenario: "+scenario+" ===")
	during, _, _ := strings.Cut(after, "=== Running scenario:")
	return tail(during)
}
