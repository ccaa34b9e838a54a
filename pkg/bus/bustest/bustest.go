// Package bustest gives a test a NATS server of its own, embedded, with
// JetStream in a folder that goes with the test.
package bustest

import (
	"log/slog"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
)

// New starts a server, connects to it over memory, and stops both when the test
// ends.
func New(t testing.TB) *bus.Bus {
	t.Helper()
	return Open(t, t.TempDir())
}

// Open is New with a folder of the caller's, so that a test can start again with
// what an earlier server has kept. Close the earlier one first.
func Open(t testing.TB, dir string) *bus.Bus {
	t.Helper()
	cfg := bus.DefaultConfig()
	cfg.Dir = dir
	cfg.Sync = "2m" // a test that crashes has nothing to lose
	b, err := bus.Open(cfg, t.Name(), embed.Start, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}
