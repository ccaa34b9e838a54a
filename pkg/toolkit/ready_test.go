package toolkit_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

// A service is announced when its checks pass, and the process is ready when that
// is done.
func TestServiceIsAnnouncedWhenItIsReady(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	check := func(context.Context) error {
		if asked.Add(1) < 5 {
			return errors.New("not yet")
		}
		return nil
	}
	role := toolkit.Role("basics", image(t), func(env *app.Env) (app.Service, error) {
		env.Ready("database", check)
		return basics{}, nil
	})
	entries := make(chan bus.Entry, 16)
	watcher := app.Role{Name: "watcher", Allow: map[string][]string{"-": nil}, New: func(env *app.Env) (app.Service, error) {
		return watching{env.Bus, entries}, nil
	}}
	cfg, err := app.Load("", "state_dir="+t.TempDir(), "bus.sync=2m")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ready, done := make(chan *bus.Bus, 1), make(chan error, 1)
	go func() {
		done <- app.Run(ctx, app.Options{
			Config: cfg, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), StartBus: embed.Start,
			Ready: func(i app.Info) { ready <- i.Env("executor").Bus },
		}, watcher, role)
	}()
	e := <-entries
	if n := asked.Load(); n < 5 {
		t.Errorf("the service was announced after %d checks, want 5: it was not ready", n)
	}
	if _, err := (<-ready).Get(t.Context(), bus.Tools, e.Key); err != nil {
		t.Errorf("the process is ready, and the announcement is not there: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}
