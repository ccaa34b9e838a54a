package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// trio is a system of three nodes, each with a NATS server, an auth process and an
// edge of its own.
type trio struct {
	t      *testing.T
	nats   *natsCluster
	away   *relay // from auth and edge of the third node to their NATS server
	auths  [3]string
	edges  [3]string
	keys   [3]authv1.KeyServiceClient
	client *http.Client
	agents atomic.Int32 // so far
}

// newTrio starts one. The edges of the first two nodes ask all auth processes, the
// third its own alone.
func newTrio(t *testing.T, settings ...string) *trio {
	t.Helper()
	c := &trio{t: t, nats: newCluster(t), client: connections(t)}
	c.away = newRelay(t, strings.TrimPrefix(c.nats.urls[2], "nats://"))
	e := newEstate(t, `
roles:
  auth: {pepper_file: DIR/pepper.key, grant_key_file: DIR/grant.key}
  executor: {grant_key_files: [DIR/grant.key]}
`+roomy)
	settings = append(settings, "bus.replicas=3")
	reached := [3]string{c.nats.urls[0], c.nats.urls[1], "nats://" + c.away.address}
	tools, _, _ := counterRoles(t)
	behind := []*process{
		e.start("executor", reached[0], []app.Role{executor.Role}, settings...),
		e.start("quota", reached[0], []app.Role{quota.Role}, settings...),
		e.start("tools", reached[1], []app.Role{tools}, settings...),
	}
	var auths [3]*process
	for i := range auths {
		auths[i] = e.start(fmt.Sprint("auth-", i+1), reached[i], []app.Role{auth.Role}, settings...)
	}
	for i := range auths {
		c.auths[i] = e.await(auths[i], "auth")
		c.keys[i] = e.keys(c.auths[i])
	}
	for i := range c.edges {
		asks := strings.Join(c.auths[:], ",")
		if i == 2 {
			asks = c.auths[2]
		}
		p := e.start(fmt.Sprint("edge-", i+1), reached[i], []app.Role{edge.Role}, append(settings,
			"peers.auth="+asks, "peers.executor="+e.await(behind[0], "executor"), "peers.quota="+e.await(behind[1], "quota"))...)
		c.edges[i] = e.await(p, "edge")
	}
	for i := range auths {
		captured{
			authv1.NewAuthServiceClient(e.conn("edge", "auth", c.auths[i])),
			executorv1.NewExecutorServiceClient(e.conn("edge", "executor", e.await(behind[0], "executor"))),
		}.awaitTools(t, c.key("first"))
	}
	return c
}

// key makes a key.
func (c *trio) key(name string) string {
	c.t.Helper()
	_, text := createKey(c.t, c.keys[0], fmt.Sprint(name, "-", c.agents.Add(1)), "admin")
	return text
}

// agent is a client with an address of its own: failures of one shall not be
// counted against others.
func (c *trio) agent(key string) agent {
	n := c.agents.Add(1)
	return agent{c.client, key, fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)}
}

// use is the use of one key at one edge, again and again, until it is refused.
type use struct {
	begun atomic.Int64 // when the last request began that was accepted, and when it
	ended atomic.Int64 // was answered; in nanoseconds since the trio's start
	count atomic.Int64
}

func since(start time.Time) int64 { return int64(time.Since(start)) }

// keepUsing uses a key until it has been refused some times one after the other,
// or ctx is done. A key is accepted where it is not known yet, by and by.
func (u *use) keepUsing(ctx context.Context, start time.Time, revoked *atomic.Bool, do func(context.Context) (bool, string, error)) {
	const enough = 3 // one auth process may be later than another
	for refused := 0; refused < enough && ctx.Err() == nil; {
		over, begun := revoked.Load(), since(start)
		done, _, err := do(ctx)
		switch {
		case done:
			u.begun.Store(begun)
			u.ended.Store(since(start))
			u.count.Add(1)
			refused = 0
		case over && err == nil:
			refused++
		}
	}
}

// trials is how often a key is revoked; SALLYPORT_REVOCATIONS in the environment
// says otherwise.
func trials(t *testing.T) int {
	t.Helper()
	text := os.Getenv("SALLYPORT_REVOCATIONS")
	if text == "" {
		return 60
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SALLYPORT_REVOCATIONS: %q is no number", text)
	}
	return n
}

// How long a key is accepted after its revocation has returned, with three nodes
// under load.
func TestRevocationOnThreeNodes(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	start := time.Now()
	stop := c.load()
	defer stop()

	var late, took []time.Duration
	for trial := range trials(t) {
		id, key := createKey(t, c.keys[trial%3], fmt.Sprint("doomed-", trial), "admin")
		var revoked atomic.Bool
		uses := make([]*use, 6)
		var all sync.WaitGroup
		for i := range uses {
			uses[i] = new(use)
			a, at := c.agent(key), c.edges[i%3]
			all.Go(func() {
				uses[i].keepUsing(t.Context(), start, &revoked, func(ctx context.Context) (bool, string, error) {
					return a.call(ctx, at, "get_customer", `{"customer_id":7}`)
				})
			})
		}
		await(t, "the key is used at all edges", func() bool {
			return !slices.ContainsFunc(uses, func(u *use) bool { return u.count.Load() < 3 })
		})
		asked := time.Now()
		if _, err := c.keys[(trial+1)%3].RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
		returned := since(start)
		took = append(took, time.Since(asked))
		revoked.Store(true)
		all.Wait()
		last := returned
		for _, u := range uses {
			last = max(last, u.ended.Load())
			if over := time.Duration(u.begun.Load() - returned); over > auth.DefaultConfig().StaleAfter {
				t.Errorf("a call that began %v after the revocation was accepted", over)
			}
		}
		late = append(late, time.Duration(last-returned))
	}
	calls := stop()
	t.Logf("%d other calls meanwhile, %.0f a second\n%s\n%s", calls, float64(calls)/time.Since(start).Seconds(),
		distribution("key revoke takes", took), distribution("from its return to the last accepted call", late))
}

// distribution is a table of one line.
func distribution(what string, d []time.Duration) string {
	slices.Sort(d)
	at := func(q float64) time.Duration {
		return d[min(len(d)-1, int(q*float64(len(d))))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("%-44s n=%d  p50=%v  p90=%v  p99=%v  max=%v", what, len(d), at(0.5), at(0.9), at(0.99), at(1))
}

// load calls tools at all edges with other keys, until it is stopped and returns
// how many calls there were.
func (c *trio) load() (stop func() int64) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var calls atomic.Int64
	var all sync.WaitGroup
	for i := range c.edges {
		a, at := c.agent(c.key("other")), c.edges[i]
		all.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				if done, _, _ := a.call(ctx, at, "get_customer", `{"customer_id":7}`); done {
					calls.Add(1)
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	return func() int64 { cancel(); all.Wait(); return calls.Load() }
}

// No node accepts a revoked key for longer than the stated bounds when it hears
// nothing: its connection to NATS is frozen, or closed, or its NATS server is cut
// off from the others.
func TestRevocationWhileANodeHearsNothing(t *testing.T) {
	t.Parallel()
	const stale, valid = 1500 * time.Millisecond, time.Second
	c := newTrio(t, "roles.auth.stale_after="+stale.String(), "roles.auth.valid_for="+valid.String())
	tests := []struct {
		name     string
		do, undo func()
		// remembers says that the edge may remember for a while whom auth has known.
		remembers time.Duration
	}{
		{"its connection is frozen", func() { c.away.set(true, false) }, func() { c.away.set(false, false) }, valid},
		{"its connection is closed", func() { c.away.set(false, true) }, func() { c.away.set(false, false) }, 0},
		{"its server is cut off", func() { c.nats.isolate(true) }, func() { c.nats.isolate(false) }, valid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			id, key := createKey(t, c.keys[0], "doomed "+strings.ReplaceAll(tt.name, " ", "-"), "admin")
			lasting := c.agent(c.key("lasting"))
			var revoked atomic.Bool
			var calls, discoveries use
			var both sync.WaitGroup
			a := c.agent(key)
			both.Go(func() {
				calls.keepUsing(t.Context(), start, &revoked, func(ctx context.Context) (bool, string, error) {
					return a.call(ctx, c.edges[2], "get_customer", `{"customer_id":7}`)
				})
			})
			both.Go(func() {
				discoveries.keepUsing(t.Context(), start, &revoked, func(ctx context.Context) (bool, string, error) {
					return a.discover(ctx, c.edges[2])
				})
			})
			await(t, "the key is used", func() bool { return calls.count.Load() > 2 && discoveries.count.Load() > 2 })
			for _, stream := range []string{"KV_" + bus.Keys.Name, bus.AuditStream} {
				c.nats.lead(t, stream)
			}
			undo := sync.OnceFunc(tt.undo)
			t.Cleanup(undo)
			tt.do()
			awaitLonger(t, 4*time.Minute, "the key is revoked", func() bool { // several elections, if servers have no time to vote
				_, err := c.keys[0].RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: id})
				if err != nil {
					t.Logf("%v: not revoked yet: %v", time.Since(start).Round(time.Millisecond), err)
				}
				return err == nil
			})
			returned := since(start)
			revoked.Store(true)
			both.Wait()
			for _, u := range []struct {
				what  string
				use   *use
				bound time.Duration
			}{{"call", &calls, stale}, {"discovery", &discoveries, stale + tt.remembers}} {
				over := time.Duration(u.use.begun.Load() - returned)
				t.Logf("the last %s that was accepted began %v after the revocation; the bound is %v", u.what, over, u.bound)
				if over > u.bound {
					t.Errorf("a %s that began %v after the revocation was accepted, the bound is %v", u.what, over, u.bound)
				}
			}
			undo()
			await(t, "the node serves again", func() bool {
				done, _, _ := lasting.call(t.Context(), c.edges[2], "get_customer", `{"customer_id":7}`)
				return done
			})
			if done, answer, err := a.call(t.Context(), c.edges[2], "get_customer", `{"customer_id":7}`); done {
				t.Errorf("the revoked key is accepted when the node serves again: %s, %v", answer, err)
			}
		})
	}
}
