//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// program is the sallyport binary that all tests start; TestMain builds it.
var program string

func TestMain(m *testing.M) {
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := install(ctx); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "sallyport-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if program, err = launch.Build(ctx, dir); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// install brings node_modules to what package-lock.json pins, unless it is newer
// already, as `make e2e` sees to. No package's own scripts run.
func install(ctx context.Context) error {
	wanted, err := os.Stat("package-lock.json")
	if err != nil {
		return err
	}
	installed := filepath.Join("node_modules", ".package-lock.json")
	if got, err := os.Stat(installed); err == nil && !got.ModTime().Before(wanted.ModTime()) {
		return nil
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci (these tests need npm, to install the clients): %w\n%s", err, out)
	}
	now := time.Now()
	return os.Chtimes(installed, now, now) // npm keeps the time of an unchanged one
}

// node is the Node.js that package-lock.json pins. The Inspector needs a newer
// one than many systems have.
func node(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("node_modules/node-*/bin/node")
	if err != nil || len(found) != 1 {
		t.Fatalf("the pinned Node.js is not there (got %v, %v); is this platform among the optionalDependencies of package.json?", found, err)
	}
	return found[0]
}

// start runs an instance for the test's time and fails the test if it does not
// stop in order or says more than its one line.
func start(t *testing.T, o launch.Options) launch.Ready {
	t.Helper()
	o.Binary = program
	o.StateDir = filepath.Join(t.TempDir(), "state")
	i, err := launch.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		extra, err := i.Stop()
		if err != nil {
			t.Errorf("stop: %v", err)
		}
		if extra != "" {
			t.Errorf("standard output has more than one line: %q", extra)
		}
		if t.Failed() {
			t.Logf("standard error ends with:\n%s", i.Output())
			logEnds(t, o.StateDir)
		}
	})
	if i.Ready.MCPURL == "" || len(i.Ready.MCPURLs) == 0 || i.Ready.Keys.Admin == "" || i.Ready.Keys.Analyst == "" || i.Ready.Keys.Intern == "" {
		t.Fatalf("the line lacks a URL or a key: %+v", i.Ready)
	}
	return i.Ready
}

// logEnds shows the end of each log file of an instance.
func logEnds(t *testing.T, stateDir string) {
	t.Helper()
	const most = 4 << 10
	files, err := filepath.Glob(filepath.Join(stateDir, "*.log"))
	more, err2 := filepath.Glob(filepath.Join(stateDir, "logs", "*.log"))
	if err := errors.Join(err, err2); err != nil {
		t.Error(err)
	}
	for _, file := range append(files, more...) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s ends with:\n%s", filepath.Base(file), b[max(0, len(b)-most):])
	}
}
