package logs_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/logs"
)

// As a role without any configuration the service has something to tell, and
// tells it to the executor alone.
func TestRole(t *testing.T) {
	t.Parallel()
	info := run(t)
	for caller, want := range map[string]codes.Code{"executor": codes.OK, "edge": codes.PermissionDenied} {
		conn, err := info.Env(caller).Conn("logs")
		if err != nil {
			t.Fatal(err)
		}
		got, err := logsv1.NewLogsServiceClient(conn).SummarizeLogs(t.Context(), &logsv1.SummarizeLogsRequest{})
		if status.Code(err) != want {
			t.Errorf("SummarizeLogs as %s: got error %v, want code %v", caller, err, want)
		}
		if want == codes.OK && len(got.GetSources()) != 4 {
			t.Errorf("got %d sources, want the four demo logs", len(got.GetSources()))
		}
	}
}

func TestRoleConfig(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"roles.logs.max_files=0": "max_files: 0 is not between 1 and 1000",
		"roles.logs.max_file=1":  "field max_file not found",
		"roles.logs.max_files=7": "",
	} {
		state := t.TempDir()
		cfg, err := app.Load("", "state_dir="+state, set)
		if err != nil {
			t.Fatal(err)
		}
		err = app.Run(t.Context(), app.Options{Config: cfg, StartBus: embed.Start, CheckOnly: true}, logs.Role)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", set, err, want)
		}
		if _, err := os.Stat(filepath.Join(state, "demo-logs")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the check has made demo logs", set)
		}
	}
}

// run plays the role until the test ends.
func run(t *testing.T) app.Info {
	t.Helper()
	cfg, err := app.Load("", "state_dir="+t.TempDir(), "bus.sync=2m")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan app.Info, 1), make(chan error, 1)
	go func() {
		done <- app.Run(ctx, app.Options{
			Config: cfg, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), StartBus: embed.Start,
			Ready: func(i app.Info) { ready <- i },
		}, logs.Role)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: got error %v", err)
		}
	})
	select {
	case i := <-ready:
		return i
	case err := <-done:
		done <- nil
		t.Fatalf("Run ended: %v", err)
		return app.Info{}
	}
}
