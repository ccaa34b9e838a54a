package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A tool service in Go that is fresh from `tool init` builds with the libraries
// that this module has, and does what its cases say.
func TestToolInGo(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "order-status")
	if code, _, errs := alone(t, "tool", "init", "order-status", "--lang", "go", "--dir", folder); code != exitOK {
		t.Fatalf("init: exit %d, %s", code, errs)
	}
	ours, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	its, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(its)) {
		if strings.HasPrefix(line, "\t") && !strings.Contains(string(ours), line) {
			t.Errorf("go.mod of the template has %q, which is not what ours has", line)
		}
	}
	// Nothing is fetched: what the libraries need besides is as it is here.
	for line := range strings.Lines(string(ours)) {
		if strings.Contains(line, " v") && (strings.HasPrefix(line, "\tgolang.org/x/") || strings.HasPrefix(line, "\tgoogle.golang.org/genproto/googleapis/rpc ")) {
			its = append(its, "require "+strings.TrimSpace(line)+"\n"...)
		}
	}
	sums, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"go.mod": its, "go.sum": sums} {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"vet", "."}, {"build"}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -buildvcs=false", "GOPROXY=off", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	i, _ := dev(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	served := make(chan int, 1)
	go func() {
		served <- run(ctx, []string{
			"--state", i.StateDir, "tool", "serve", filepath.Join(folder, "order-status.proto"), "--", filepath.Join(folder, "order-status"),
		}, strings.NewReader(""), &out, &errs)
	}()
	t.Cleanup(func() {
		cancel()
		<-served
	})
	said := ""
	for tick := time.NewTicker(50 * time.Millisecond); ; { // until it is announced
		var code int
		if code, said, _ = sallyport(t, i, "tool", "test", filepath.Join(folder, "cases.yaml")); code == exitOK && strings.Contains(said, "3 of 3 cases are as expected") {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case code := <-served:
			served <- code
			t.Fatalf("serve: exit %d\n%s%s", code, out.String(), errs.String())
		case <-ctx.Done():
			t.Fatalf("its cases: %s", said)
		}
	}
}
