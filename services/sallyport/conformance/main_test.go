//go:build conformance

package conformance_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// The programs that all tests start; TestMain builds them.
var program, provider string

func TestMain(m *testing.M) {
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := install(ctx); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "sallyport-conformance-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if program, err = launch.Build(ctx, dir); err != nil {
		return 1, err
	}
	provider = filepath.Join(dir, "conformanced")
	build := exec.CommandContext(ctx, "go", "build", "-o", provider, "github.com/sallyport-mcp/sallyport/services/tools/conformance/conformanced")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build conformanced: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// install brings node_modules to what package-lock.json pins, unless it is newer
// already, as `make conformance` sees to. No package's own scripts run.
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
		return fmt.Errorf("npm ci (these tests need npm, to install the suite): %w\n%s", err, out)
	}
	now := time.Now()
	return os.Chtimes(installed, now, now) // npm keeps the time of an unchanged one
}

// node is the Node.js that package-lock.json pins; the suite needs a newer one
// than many systems have.
func node(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("node_modules/node-*/bin/node")
	if err != nil || len(found) != 1 {
		t.Fatalf("the pinned Node.js is not there (got %v, %v); is this platform among the optionalDependencies of package.json?", found, err)
	}
	return found[0]
}
