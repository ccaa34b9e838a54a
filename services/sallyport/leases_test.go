package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// What a hot caller costs under large limits, and that answers stay right.
func TestCallsWithinALeaseAskNobody(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T) {
		c := quotaOf(t, "rules: [{id: per-ip, key: [ip], limit: 100000/hour}, {id: per-key, key: [key], limit: 200000/hour}]", "")
		l := newLeasing(t, c)
		const calls = 2000
		for n := 1; n <= calls; n++ {
			ok, limits := l.call("ann", "192.0.2.1")
			if want := fmt.Sprintf(`"per-ip";r=%d;`, 100_000-n); !ok || !strings.HasPrefix(limits, want) {
				t.Fatalf("call %d: %v, %s, want %s", n, ok, limits, want)
			}
			<-time.After(time.Millisecond)
		}
		if n := l.asked.checks.Load(); n > calls/20 {
			t.Errorf("quota was asked %d times about %d calls", n, calls)
		}
		<-time.After(2 * time.Second) // what is left goes back
		resp, err := c.Usage(t.Context(), &quotav1.UsageRequest{Subject: &quotav1.Subject{Attributes: map[string]string{"ip": "192.0.2.1", "key": "ann"}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.GetLimits()[0].GetRemaining(); got != 100_000-calls {
			t.Errorf("%d are left, want %d", got, 100_000-calls)
		}
	})
}

// A lease is over when its time is, and not when somebody gives it back.
func TestALeaseThatIsOverIsOfNoUse(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T) {
		// Counted in parts of 100 ms, of which a lease lasts three quarters at most.
		l := newLeasing(t, quotaOf(t, "rules: [{id: a, key: [user], limit: 1000000/second}]", ""))
		for range 2 {
			const calls = 50
			before := l.asked.checks.Load()
			for range calls {
				l.call("ann", "192.0.2.1")
				<-time.After(80 * time.Millisecond)
			}
			if n := l.asked.checks.Load() - before; n != calls {
				t.Errorf("quota was asked %d times about %d calls of which each came after the lease of the one before", n, calls)
			}
			before = l.asked.checks.Load()
			for range calls { // at once
				l.call("ann", "192.0.2.1")
			}
			if n := l.asked.checks.Load() - before; n > calls/5 {
				t.Errorf("quota was asked %d times about %d calls at once", n, calls)
			}
			<-time.After(80 * time.Millisecond)
		}
	})
}

// Small limits, step budgets and the like are asked about each time, and are exact
// over edges.
func TestSmallLimitsAreAlwaysAsked(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{
		"5 a minute":                "rules: [{id: a, key: [ip], limit: 5/minute}]",
		"beside a large one":        "rules: [{id: a, key: [ip], limit: 5/minute}, {id: b, key: [user], limit: 1000000/minute}]",
		"a step budget":             "rules: [{id: a, key: [user], limit: 5/hour, kind: steps}, {id: b, limit: 1000000/minute}]",
		"a loop":                    "rules: [{id: a, key: [user, context, call], limit: 5/minute, kind: loop}, {id: b, limit: 1000000/minute}]",
		"by an override":            "rules: [{id: a, key: [user], limit: 1000000/minute, overrides: [{when: {client: tests/1}, limit: 5/minute}]}]",
		"counted smoothly":          "rules: [{id: a, key: [user], limit: 5/hour, algorithm: gcra}]",
		"with a penalty":            "rules: [{id: a, key: [user], limit: 5/minute, penalty: extend}]",
		"a large one with a budget": "rules: [{id: a, key: [user], limit: 1000000/minute}, {id: b, key: [user, context], limit: 5/hour, kind: steps}]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFakeTime(t, func(t *testing.T) {
				c := quotaOf(t, rules, "")
				edges := []*leasing{newLeasing(t, c), newLeasing(t, c), newLeasing(t, c)}
				allowed, asked := 0, int64(0)
				const calls = 60
				for n := range calls {
					if ok, _ := edges[n%3].call("ann", "192.0.2.1"); ok {
						allowed++
					}
					<-time.After(time.Millisecond)
				}
				for _, l := range edges {
					asked += l.asked.checks.Load()
					l.stop()
				}
				if allowed != 5 || asked != calls {
					t.Errorf("%d were allowed of 5, and quota was asked %d times about %d calls", allowed, asked, calls)
				}
			})
		})
	}
}

// Other rules hold from the moment in which they are told, whatever was leased.
func TestAReloadEndsLeases(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "rules.yaml")
		write := func(rules string) {
			if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("rules: [{id: a, key: [user], limit: 1000000/hour}]")
		c := quotaOf(t, "", file)
		l := newLeasing(t, c)
		for range 100 {
			l.call("ann", "192.0.2.1")
		}
		if n := l.asked.checks.Load(); n > 20 {
			t.Fatalf("quota was asked %d times about 100 calls", n)
		}
		write("rules: [{id: b, key: [user], limit: 3/hour}]")
		for {
			resp, err := c.Peek(t.Context(), &quotav1.PeekRequest{Subject: &quotav1.Subject{}})
			if err != nil {
				t.Fatal(err)
			}
			if resp.GetCheck().GetLimits()[0].GetName() == "b" {
				break
			}
			l.call("ann", "192.0.2.1") // has a lease all the time
			<-time.After(10 * time.Millisecond)
		}
		synctest.Wait() // the edge has heard of it
		before, allowed := l.asked.checks.Load(), 0
		for range 20 {
			if ok, _ := l.call("ann", "192.0.2.1"); ok {
				allowed++
			}
		}
		if asked := l.asked.checks.Load() - before; allowed != 3 || asked != 20 {
			t.Errorf("by the new rules %d of 3 were allowed, and quota was asked %d times about 20 calls", allowed, asked)
		}
	})
}

// An edge that loses its stream asks about each call, until it has another.
func TestALostStreamEndsLeases(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T) {
		l := newLeasing(t, quotaOf(t, "rules: [{id: a, key: [user], limit: 1000000/hour}]", ""))
		call := func(calls int) int64 {
			before := l.asked.checks.Load()
			for range calls {
				if ok, _ := l.call("ann", "192.0.2.1"); !ok {
					t.Fatal("it is refused")
				}
			}
			return l.asked.checks.Load() - before
		}
		if n := call(100); n > 20 {
			t.Fatalf("quota was asked %d times about 100 calls", n)
		}
		l.asked.cutOff()
		synctest.Wait()
		if n := call(10); n != 10 {
			t.Errorf("without a stream quota was asked %d times about 10 calls", n)
		}
		<-time.After(6 * time.Second)
		call(2)
		if n := call(100); n > 20 {
			t.Errorf("on the next stream quota was asked %d times about 100 calls", n)
		}
	})
}

// No window of any limit admits more over several edges, some of which die with
// leases and some of which lose their streams.
func TestNoWindowAdmitsMoreOverEdges(t *testing.T) {
	t.Parallel()
	var calls, asked int64
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inFakeTime(t, func(t *testing.T) {
				c, a := edgesAtRandom(t, rand.New(rand.NewPCG(seed, 2)))
				calls, asked = calls+c, asked+a
			})
		})
	}
	if t.Logf("quota was asked %d times about %d calls", asked, calls); asked > calls*9/10 {
		t.Error("hardly any call was leased, so nothing was tested")
	}
}

// admission is a call that was allowed.
type admission struct {
	at       time.Time
	user, ip string
}

func edgesAtRandom(t *testing.T, rng *rand.Rand) (calls, asked int64) {
	window := time.Duration(1+rng.IntN(2)) * time.Second
	byUser, byIP := 600+rng.IntN(600), 900+rng.IntN(600)
	c := quotaOf(t, fmt.Sprintf("rules: [{id: a, key: [user], limit: %d/%d seconds}, {id: b, key: [ip], limit: %d/%d seconds}]",
		byUser, window/time.Second, byIP, window/time.Second), "")
	var all []*leasing
	edges := make([]*leasing, 3)
	for i := range edges {
		edges[i] = newLeasing(t, c)
		all = append(all, edges[i])
	}
	var admitted []admission
	users, ips := []string{"ann", "bob"}, []string{"192.0.2.1", "192.0.2.2"}
	for end := time.Now().Add(3 * window); time.Now().Before(end); {
		i, user, ip := rng.IntN(3), users[rng.IntN(2)], ips[rng.IntN(2)]
		for range rng.IntN(90) {
			calls++
			if ok, _ := edges[i].call(user, ip); ok {
				admitted = append(admitted, admission{time.Now(), user, ip})
			}
		}
		switch rng.IntN(40) {
		case 0: // it dies, another comes
			edges[i].asked.cutOff()
			edges[i] = newLeasing(t, c)
			all = append(all, edges[i])
		case 1:
			edges[i].asked.cutOff()
		case 2, 3, 4, 5: // what is leased meanwhile gets old
			<-time.After(window / 8)
		}
		<-time.After(time.Duration(rng.Int64N(int64(window / 30))))
	}
	for _, l := range all {
		l.stop()
		asked += l.asked.checks.Load()
	}
	for _, user := range users {
		checkWindows(t, admitted, func(a admission) bool { return a.user == user }, window, byUser)
	}
	for _, ip := range ips {
		checkWindows(t, admitted, func(a admission) bool { return a.ip == ip }, window, byIP)
	}
	return calls, asked
}

// checkWindows counts those that are meant in each window.
func checkWindows(t *testing.T, admitted []admission, meant func(admission) bool, window time.Duration, limit int) {
	t.Helper()
	var in []time.Time
	for _, a := range admitted {
		if !meant(a) {
			continue
		}
		in = append(in, a.at)
		for a.at.Sub(in[0]) >= window {
			in = in[1:]
		}
		if len(in) > limit {
			t.Errorf("%d were admitted in a window of %v, %d is the limit", len(in), window, limit)
			return
		}
	}
}
