package launch_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// program writes a shell script that stands in for sallyport. It ends in good
// order when it is asked to.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\ntrap 'exit 0' TERM\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// untilTerm waits for SIGTERM.
const untilTerm = "while :; do sleep 0.05; done\n"

func TestStart(t *testing.T) {
	t.Parallel()
	const line = `echo '{"mcp_url":"http://127.0.0.1:1/mcp","keys":{"admin":"a"},"processes":[{"name":"x","pid":'$$'}]}'` + "\n"
	tests := []struct {
		name      string
		script    string
		wantErr   string // of Start
		wantExtra string
	}{
		{name: "a program that says its line and stops when asked", script: line + untilTerm},
		{name: "more than the one line is told", script: "trap 'echo more; exit 0' TERM\n" + line + untilTerm, wantExtra: "more\n"},
		{name: "a program that fails at once, with what it said", script: "echo the port is taken >&2; exit 3\n", wantErr: "the port is taken"},
		{name: "a line that is not JSON", script: "echo ready\n" + untilTerm, wantErr: "invalid character"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := launch.Start(t.Context(), launch.Options{Binary: program(t, tt.script), StateDir: t.TempDir()})
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("Start: got error %v, want %q in it", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Ready.MCPURL != "http://127.0.0.1:1/mcp" || s.Ready.Keys.Admin != "a" {
				t.Errorf("Ready: got %+v", s.Ready)
			}
			extra, err := s.Stop()
			if err != nil || extra != tt.wantExtra {
				t.Errorf("Stop: got %q, %v, want %q", extra, err, tt.wantExtra)
			}
			if err := syscall.Kill(s.Ready.Processes[0].PID, 0); err == nil {
				t.Error("the process is still there")
			}
		})
	}
}

func TestStopReportsProcessesThatOutliveTheirParent(t *testing.T) {
	t.Parallel()
	script := "setsid sleep 60 >/dev/null 2>&1 &\n" +
		`echo '{"processes":[{"name":"stray","pid":'$!'}]}'` + "\n" + untilTerm
	s, err := launch.Start(t.Context(), launch.Options{Binary: program(t, script), StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stop(); err == nil || !strings.Contains(err.Error(), "stray") {
		t.Errorf("Stop: got error %v, want the stray process in it", err)
	}
}

func TestStartTellsTheProgramWhatToDo(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	dir := filepath.Join(t.TempDir(), "state")
	script := `printf '%s\n' "$@" "env:$OTEL_EXPORTER_OTLP_ENDPOINT$EXTRA" >"$(dirname "$0")/seen"; echo '{}'` + "\n" + untilTerm
	binary := program(t, script)
	s, err := launch.Start(t.Context(), launch.Options{
		Binary: binary, StateDir: dir, Config: "roles: {}\n", Args: []string{"--processes"}, Env: []string{"EXTRA=x"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stop(); err != nil {
		t.Error(err)
	}
	seen, err := os.ReadFile(filepath.Join(filepath.Dir(binary), "seen"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"dev", "--json", "--listen", "127.0.0.1:0", "--state", dir, "--config", dir + ".yaml", "--processes", "env:x", ""}
	if diff := cmp.Diff(want, strings.Split(string(seen), "\n")); diff != "" {
		t.Errorf("arguments and environment (-want +got):\n%s", diff)
	}
	if config, err := os.ReadFile(dir + ".yaml"); err != nil || string(config) != "roles: {}\n" {
		t.Errorf("configuration: got %q, %v", config, err)
	}
}
