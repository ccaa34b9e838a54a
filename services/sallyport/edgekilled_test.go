//go:build cluster

package main

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
)

// countedRules count each demo key in a window of its own. The node bears a busy
// machine.
const countedRules = `
roles:
  quota:
    cluster: {lease: 10s, patience: 5s}
    rules:
      - {id: minute, match: {role: analyst}, key: [key], limit: 1000/minute}
      - {id: short, match: {role: intern}, key: [key], limit: 1000/10 seconds}
      - {id: hour, match: {role: admin}, key: [key], limit: 30000/hour}
`

// countedKey is one key and what was let pass of it.
type countedKey struct {
	passes
	agent
	role   string
	limit  uint64
	window time.Duration
	left   atomic.Uint64 // as quota has said last
	rests  atomic.Bool   // nobody asks for it
	looks  []look
}

// look is what quota said was charged, and between when.
type look struct {
	sent, received time.Duration
	charged        uint64
}

// quotaOfInstance asks quota as an edge does.
func quotaOfInstance(t *testing.T, i instance.Instance) quotav1.QuotaServiceClient {
	t.Helper()
	creds, err := devca.Files(certsDir(i.StateDir)).Client("edge", "quota")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(i.Peers["quota"], nil, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return quotav1.NewQuotaServiceClient(conn)
}

// look asks what is charged of a key, as clients begin to count.
func (k *countedKey) look(t *testing.T, c *crowd, quota quotav1.QuotaServiceClient) {
	t.Helper()
	id := strings.Split(k.key, "_")[2]
	sent := time.Since(c.began)
	resp, err := quota.Usage(t.Context(), &quotav1.UsageRequest{Subject: &quotav1.Subject{Attributes: map[string]string{"key": id, "role": k.role}}})
	if err != nil {
		return // a busy machine may let the node's lease lapse
	}
	if len(resp.GetLimits()) != 1 || resp.GetLimits()[0].GetLimit() != k.limit {
		t.Errorf("%s: got %v", k.role, resp)
		return
	}
	k.left.Store(resp.GetLimits()[0].GetRemaining())
	k.looks = append(k.looks, look{sent, time.Since(c.began), k.limit - resp.GetLimits()[0].GetRemaining()})
}

// Edges that are killed, or paused for longer than their leases last, while they have
// some: no window lets more pass than its limit, and at no time was less charged
// than had passed.
func TestEdgesThatDieOrPauseWithLeasesLetNothingMorePass(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "sallyport.yaml")
	if err := os.WriteFile(config, []byte(countedRules), 0o600); err != nil {
		t.Fatal(err)
	}
	i, _ := dev(t, t.TempDir(), "--config", config, "--processes")
	quota, client := quotaOfInstance(t, i), connections(t)
	keys := []*countedKey{
		{role: "analyst", limit: 1000, window: time.Minute},
		{role: "intern", limit: 1000, window: 10 * time.Second},
		{role: "admin", limit: 30000, window: time.Hour},
	}
	for _, k := range keys {
		k.agent = agent{client: client, key: i.Keys[k.role]}
	}
	var edges []*edgeProcess
	for _, name := range edgeNames(3) {
		edges = append(edges, startEdge(t, i, name))
	}
	c := newCrowd(t, edges...)
	aPauseEndsLeases(t, c, i, keys[2])

	for e := range edges {
		for _, k := range keys {
			pace := time.Duration(0)
			if k.role == "admin" {
				pace = 5 * time.Millisecond
			}
			for range 2 {
				c.join(e, pace, func() (agent, *passes) {
					if k.rests.Load() {
						return agent{}, nil
					}
					return k.agent, &k.passes
				})
			}
		}
	}
	watched, stop := watchCharges(t, c, quota, keys)
	// A round begins where the second key is asked for after a rest: then all edges soon
	// have leases of it.
	short, leased, events := keys[1], 0, 0
	for began := time.Now(); events < 6 || time.Since(began) < 75*time.Second; events++ {
		short.rests.Store(true)
		await(t, "the window to end", func() bool { return short.left.Load() == short.limit })
		short.rests.Store(false)
		await(t, "leases to be given", func() bool { return short.left.Load() < 850 })
		at := events % 3
		e := c.edges[at].Load()
		if events%2 == 0 {
			e.signal(syscall.SIGSTOP)
			after(t.Context(), 3*time.Second)
			e.signal(syscall.SIGCONT)
		} else {
			leased += checksLeased(t, e.admin)
			e.kill()
			c.edges[at].Store(startEdge(t, i, fmt.Sprint("own-edge-", 4+events)))
		}
		after(t.Context(), time.Second) // with what it may still have
	}
	c.end()
	for e := range c.edges {
		leased += checksLeased(t, c.edges[e].Load().admin)
	}
	after(t.Context(), 12*time.Second) // what was charged leaves the shortest window, and what was let pass must
	close(stop)
	<-watched
	for _, k := range keys {
		k.check(t)
	}
	total := len(keys[0].all) + len(keys[1].all) + len(keys[2].all)
	lost := int64(keys[2].looks[len(keys[2].looks)-1].charged) - int64(len(keys[2].all))
	t.Logf("%d requests passed, %d of them by leases, %d have no answer; %d events; at most %d in a minute and %d in ten seconds; %d are charged of an hour that nobody had",
		total, leased, c.unknown.Load(), events, keys[0].mostIn(time.Minute), keys[1].mostIn(10*time.Second), lost)
	if leased < total/10 {
		t.Error("hardly any was leased, so nothing was tested")
	}
	if most := int64(events)*30000/16 + c.unknown.Load(); lost > most {
		t.Errorf("%d are charged that nobody had, more than leases and lost answers explain: %d", lost, most)
	}
}

// aPauseEndsLeases pauses an edge that has a lease for longer than that lasts, and
// quota too, so that the edge can only go by its clock.
func aPauseEndsLeases(t *testing.T, c *crowd, i instance.Instance, k *countedKey) {
	t.Helper()
	await(t, "an edge that has a lease", func() bool {
		for range 300 { // leases grow
			c.ask(t.Context(), 0, k.agent, false, &k.passes)
		}
		signalProcess(t, i, "quota", syscall.SIGSTOP)
		if c.ask(t.Context(), 0, k.agent, false, &k.passes) == passed {
			return true
		}
		signalProcess(t, i, "quota", syscall.SIGCONT)
		return false
	})
	defer signalProcess(t, i, "quota", syscall.SIGCONT)
	e := c.edges[0].Load()
	e.signal(syscall.SIGSTOP)
	after(t.Context(), 3*time.Second)
	var wg sync.WaitGroup
	var sent atomic.Int32
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { sent.Add(1) }})
	for range 32 { // wait for the edge when it wakes up
		wg.Go(func() {
			if c.ask(ctx, 0, k.agent, false, &k.passes) != undecided {
				t.Error("after the pause an edge decides by a lease that is over")
			}
		})
	}
	await(t, "requests to be sent", func() bool { return sent.Load() >= 32 })
	e.signal(syscall.SIGCONT)
	wg.Wait()
}

// watchCharges looks at the charges of keys until stop is closed.
func watchCharges(t *testing.T, c *crowd, quota quotav1.QuotaServiceClient, keys []*countedKey) (done, stop chan struct{}) {
	done, stop = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for {
			for _, k := range keys {
				k.look(t, c, quota)
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return done, stop
}

func (k *countedKey) check(t *testing.T) {
	t.Helper()
	if most := k.mostIn(k.window); most > int(k.limit) {
		t.Errorf("%s: %d have passed in %v, %d is the limit", k.role, most, k.window, k.limit)
	}
	for _, l := range k.looks {
		if n := k.within(l.received-k.window, l.sent); n > int(l.charged) {
			t.Errorf("%s: after %v %d were charged, and %d have passed within %v", k.role, l.sent, l.charged, n, k.window)
			return
		}
	}
}

// lentRules count by address, which the edges are told.
const lentRules = `
roles:
  edge: {trusted_proxies: [127.0.0.1]}
  quota:
    cluster: {lease: 5s, patience: 1s, sync: true}
    rules: [{id: per-ip, key: [ip], limit: 1000/hour}]
`

// One of three quota processes is killed while edges have leases of all of them. With
// sync nothing is lost: each address has what its limit says, and not one more.
//
// It runs alone: beside others on a small machine callers are too slow to be leased anything.
func TestAQuotaProcessThatDiesUnderEdgesWithLeases(t *testing.T) {
	config := filepath.Join(t.TempDir(), "sallyport.yaml")
	if err := os.WriteFile(config, []byte(lentRules), 0o600); err != nil {
		t.Fatal(err)
	}
	i, _ := dev(t, t.TempDir(), "--config", config, "--processes", "--replicas", "quota=3")
	client := connections(t)
	var edges []*edgeProcess
	for _, name := range edgeNames(3) {
		edges = append(edges, startEdge(t, i, name))
	}
	const addresses = 9
	var all [addresses]passes
	of := func(n int) (agent, *passes) {
		return agent{client: client, key: i.Keys["analyst"], from: fmt.Sprint("198.51.100.", n)}, &all[n]
	}
	sum := func() (n int) {
		for a := range all {
			n += all[a].within(-1, time.Hour)
		}
		return n
	}
	c := newCrowd(t, edges...)
	for e := range 3 * len(edges) {
		rng := rand.New(rand.NewPCG(uint64(e), 3))
		n := 0
		c.join(e%len(edges), 0, func() (agent, *passes) {
			if rng.IntN(50) == 0 { // hot, for leases
				n = rng.IntN(addresses)
			}
			return of(n)
		})
	}
	await(t, "a third to be used up", func() bool { return sum() > addresses*1000/3 })
	signalProcess(t, i, "quota-2", syscall.SIGKILL)
	before := sum()
	await(t, "others to decide", func() bool { return sum() > before+addresses*1000/10 })
	c.end()
	leased, open := 0, 0
	for e := range edges {
		leased += checksLeased(t, edges[e].admin)
	}
	for n := range addresses {
		a, to := of(n)
		for e, tries := 0, 0; e < len(edges); {
			switch c.ask(t.Context(), e, a, false, to) {
			case refused:
				e, tries = e+1, 0
			case undecided: // in doubt, perhaps for an hour
				if tries++; tries == 10 {
					e, tries = e+1, 0
					open++
				}
			}
		}
		if got := len(all[n].all); got > 1000 {
			t.Errorf("address %d: %d of 1000 have passed", n, got)
		}
	}
	t.Logf("%d of %d have passed, %d of them by leases until all addresses were nearly used up; %d requests had no decision, of which edges gave up %d times",
		sum(), addresses*1000, leased, c.unknown.Load(), open)
	if leased < sum()/20 {
		t.Error("hardly any was leased, so nothing was tested")
	}
}
