package fast_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/fast"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// process is a node with a connection of its own to a real NATS server.
type process struct {
	*fast.Node
	now  func() time.Duration
	stop func()
}

// onNATS starts nodes, and waits until all have heard of each other.
func onNATS(t *testing.T, count int, cfg fast.Config, specs ...limiter.Spec) []*process {
	t.Helper()
	server := bus.DefaultConfig()
	server.Dir, server.Sync, server.Listen = t.TempDir(), "2m", "127.0.0.1:0"
	b, err := bus.Open(server, t.Name(), embed.Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	for i := range specs {
		specs[i].Fast, specs[i].Name, specs[i].Count = true, uint64(1000+i), uint64(i)
	}
	var ids []string
	for i := range count {
		ids = append(ids, fmt.Sprint("n", i))
	}
	var all []*process
	for i := range count {
		conn, err := bus.Open(bus.Config{URL: b.URL(), Sync: "always", Replicas: 1}, ids[i], nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		began := time.Now()
		p := &process{now: func() time.Duration { return 100*day + time.Since(began) }}
		p.Node, err = fast.New(fast.Options{
			Config: cfg, Specs: specs, MaxKeys: 100_000, Now: p.now,
			Wall: func() time.Duration { return time.Duration(time.Now().UnixNano()) - p.now() },
			Wire: fast.NATS(conn), Members: func() (string, []string) { return ids[i], ids },
			Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		p.stop = sync.OnceFunc(func() {
			cancel()
			<-done
		})
		t.Cleanup(p.stop)
		all = append(all, p)
	}
	await(t, "all to hear of each other", func() bool {
		return !slices.ContainsFunc(all, func(p *process) bool { return p.Silent(p.now()) })
	})
	return all
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no end of waiting for %s", what)
		}
	}
}

func (p *process) left(t *testing.T, k int) uint32 {
	t.Helper()
	asks := []limiter.Ask{{Key: key(k), Cost: 1}}
	if _, err := p.Peek(p.now(), asks); err != nil {
		t.Fatal(err)
	}
	return asks[0].State.Remaining
}

func TestNodesOnNATSCountTogether(t *testing.T) {
	t.Parallel()
	cfg := fast.DefaultConfig()
	cfg.Silence = 10 * time.Second // a busy machine is no silent node
	all := onNATS(t, 3, cfg, limiter.Spec{Max: 5000, Window: time.Hour, Without: limiter.Share})
	var admitted [20]atomic.Int64
	var g sync.WaitGroup
	for i, p := range all {
		for range 3 {
			g.Go(func() {
				for c := range 10_000 {
					k := (c + i) % len(admitted)
					if ok, err := p.Take(p.now(), []limiter.Ask{{Key: key(k), Cost: 1}}); err != nil {
						t.Error(err)
					} else if ok {
						admitted[k].Add(1)
					}
				}
			})
		}
	}
	g.Wait()
	for k := range admitted {
		want := uint32(5000 - min(admitted[k].Load(), 5000))
		for i, p := range all {
			await(t, fmt.Sprintf("node %d to know that %d are left of key %d", i, want, k), func() bool { return p.left(t, k) == want })
		}
	}
	// Who stops has told all before.
	if ok, err := all[2].Take(all[2].now(), []limiter.Ask{{Key: key(99), Cost: 7}}); !ok || err != nil {
		t.Fatal(ok, err)
	}
	all[2].stop()
	await(t, "the last words of a node", func() bool { return all[0].left(t, 99) == 4993 && all[1].left(t, 99) == 4993 })
}
