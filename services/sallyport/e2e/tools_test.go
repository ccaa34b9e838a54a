//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// python is the system's: its gRPC library is a Debian package (python3-grpcio).
const python = "/usr/bin/python3"

const examples = "../../../deploy/examples"

// TestToolsInOtherLanguages serves the examples as their READMEs say, and tools
// that are fresh from `sallyport tool init`.
func TestToolsInOtherLanguages(t *testing.T) {
	ready := start(t, launch.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	node, err := filepath.Abs(node(t))
	if err != nil {
		t.Fatal(err)
	}
	npm(ctx, t, filepath.Join(examples, "tool-typescript"), "ci")
	typed := exec.CommandContext(ctx, node, "node_modules/typescript/bin/tsc", "-p", ".")
	typed.Dir = filepath.Join(examples, "tool-typescript")
	if out, err := typed.CombinedOutput(); err != nil {
		t.Errorf("tsc: %v\n%s", err, out)
	}
	made := t.TempDir()
	for name, language := range map[string]string{"order-status": "typescript", "shop-hours": "python"} {
		output(ctx, t, program, "tool", "init", name, "--lang", language, "--dir", filepath.Join(made, name))
	}
	npm(ctx, t, filepath.Join(made, "order-status"), "install")

	services := []struct {
		folder, proto string
		command       []string
		tool          string
		arguments     map[string]any
		want          map[string]any
	}{
		{filepath.Join(examples, "tool-typescript"), "weather.proto", []string{node, "weather.ts"}, "get_weather", map[string]any{"city": "Tromsø"}, map[string]any{"celsius": -4.0, "sky": "snow"}},
		{filepath.Join(examples, "tool-python"), "inventory.proto", []string{python, "inventory.py"}, "count_stock", map[string]any{"article": "AB-1234"}, map[string]any{"total": 15.0, "warehouses": map[string]any{"Bergen": 3.0, "Oslo": 12.0}}},
		{filepath.Join(made, "order-status"), "order-status.proto", []string{node, "order-status.ts"}, "get_order_status", map[string]any{"name": "Oslo"}, map[string]any{"summary": "This is all that is known of Oslo."}},
		{filepath.Join(made, "shop-hours"), "shop-hours.proto", []string{python, "shop-hours.py"}, "get_shop_hours", map[string]any{"name": "Oslo"}, map[string]any{"summary": "This is all that is known of Oslo."}},
	}
	inspector := newInspector(t, "modern")
	for _, s := range services {
		cmd := serveTool(t, ready.StateDir, s.folder, s.proto, s.command...)
		call := instruction{Op: opCall, URL: ready.MCPURL, Key: ready.Keys.Analyst, Era: modern, Tool: s.tool, Arguments: s.arguments}
		until(ctx, t, s.tool, func() error { // it may be listed a moment after it is announced
			got, err := inspector.do(ctx, call)
			if err != nil {
				return err
			}
			if got.Result == nil || got.Result.IsError {
				return fmt.Errorf("got %v", got.Failure)
			}
			if diff := cmp.Diff(s.want, got.Result.Structured); diff != "" {
				return fmt.Errorf("the result (-want +got):\n%s", diff)
			}
			return nil
		})
		output(ctx, t, program, "tool", "lint", filepath.Join(s.folder, s.proto), "--online", "--state", ready.StateDir)
		if cases := filepath.Join(s.folder, "cases.yaml"); exists(cases) {
			out := output(ctx, t, program, "tool", "test", cases, "--state", ready.StateDir)
			if !strings.Contains(out, "3 of 3 cases are as expected") {
				t.Errorf("tool test: %s", out)
			}
		}
		// It says goodbye when it is stopped, and its server stops with it.
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", s.proto, err)
		}
		if out := output(ctx, t, program, "tool", "list", "--state", ready.StateDir); strings.Contains(out, s.tool) {
			t.Errorf("it is still there:\n%s", out)
		}
	}
}

// serveTool runs `sallyport tool serve` and waits until it says that it serves.
func serveTool(t *testing.T, state, folder, proto string, command ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, append([]string{"tool", "serve", proto, "--state", state, "--"}, command...)...)
	cmd.Dir = folder
	errs := &limited{}
	cmd.Stderr = errs
	cmd.WaitDelay = 5 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	line := make([]byte, 256)
	n, err := stdout.Read(line)
	if err != nil || !strings.Contains(string(line[:n]), " serves ") {
		t.Fatalf("%s: %q, %v\n%s", proto, line[:n], err, errs)
	}
	return cmd
}

func npm(ctx context.Context, t *testing.T, folder, command string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, "npm", command, "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm %s: %v\n%s", command, err, out)
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
