//go:build cluster

package quota_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// fastRules bear a busy machine.
const fastRules = `
cluster: {enabled: true, lease: 10s, patience: 5s}
fast: {silence: 5s}
rules:
  - {id: fleet, match: {action: tools/call}, limit: 20000/hour, mode: fast}
  - {id: per-ip, match: {action: tools/call}, key: [ip], limit: 10/hour}
`

// left tells what is left of a limit, as a member knows it.
func (m *member) left(t *testing.T, limit string, pairs ...string) uint64 {
	t.Helper()
	u, err := m.Usage(t.Context(), &quotav1.UsageRequest{Subject: subject(pairs...)})
	if err != nil { // it does not know of the others yet
		return 1 << 63
	}
	i := slices.IndexFunc(u.GetLimits(), func(l *quotav1.LimitState) bool { return l.GetName() == limit })
	if i < 0 {
		t.Fatalf("no limit %s in %v", limit, u)
	}
	return u.GetLimits()[i].GetRemaining()
}

// A check of both sorts takes from all of its limits or from none: what a strict
// rule refuses costs the fast one nothing, on any node.
func TestFastAndStrictRulesAreAllOrNothing(t *testing.T) {
	t.Parallel()
	url := natsServer(t).URL()
	members := []*member{startOn(t, onBus(url), fastRules), startOn(t, onBus(url), fastRules), startOn(t, onBus(url), fastRules)}
	steady(t, members...)
	var allowed atomic.Int32
	var g sync.WaitGroup
	for key := range 40 {
		for c := range 50 {
			g.Go(func() {
				res, err := members[c%3].Check(t.Context(), check("action", "tools/call", "ip", fmt.Sprintf("192.0.2.%d", key)))
				switch {
				case err != nil:
					t.Error(err)
				case res.GetAllowed():
					allowed.Add(1)
				case res.GetRule() != "per-ip":
					t.Errorf("refused with %v", res)
				}
			})
		}
		g.Wait()
	}
	if n := allowed.Load(); n != 400 {
		t.Errorf("%d admitted, want 400", n)
	}
	for i, m := range members {
		await(t, fmt.Sprintf("member %d to know that 400 were spent", i), func() bool {
			return m.left(t, "fleet", "action", "tools/call", "ip", "192.0.2.1") == 19_600
		})
	}
	// A fast rule that refuses costs the strict ones nothing.
	res, err := members[0].Check(t.Context(), costing(19_601, "action", "tools/call", "ip", "198.51.100.1"))
	if err != nil || res.GetAllowed() || res.GetRule() != "fleet" {
		t.Errorf("got %v, %v", res, err)
	}
	if n := members[1].left(t, "per-ip", "action", "tools/call", "ip", "198.51.100.1"); n != 10 {
		t.Errorf("%d left of the strict rule", n)
	}
	e := explain(t, members[0].svc)
	fleet := e.GetRules()[0]
	if e.GetNodes() != 3 || fleet.GetMode() != "fast" || fleet.GetKeys() != 1 || fleet.GetExcess() > 40_000 ||
		!strings.Contains(strings.Join(fleet.GetNotes(), " "), "at the same moment, 40000 more") {
		t.Errorf("explained as %v", fleet)
	}
}

// Rules change on one node after the other, and what was admitted stays counted.
func TestFastRulesChangeWhileCounting(t *testing.T) {
	t.Parallel()
	url, file := natsServer(t).URL(), filepath.Join(t.TempDir(), "rules.yaml")
	rules := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("rules: "+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rules("[{id: other, limit: 5/hour}, {id: a, limit: 500/hour, mode: fast}]")
	text := "cluster: {enabled: true, lease: 10s, patience: 5s}\nfast: {silence: 5s}\nrules_files: " + file
	members := []*member{join(t, url, text), join(t, url, text)}
	await(t, "both to count", func() bool { return members[0].left(t, "a") == 500 && members[1].left(t, "a") == 500 })
	spend := func(m *member, n uint32) bool {
		t.Helper()
		res, err := m.Check(t.Context(), costing(n))
		if err != nil {
			t.Fatal(err)
		}
		return res.GetAllowed()
	}
	if !spend(members[0], 3) || !spend(members[1], 1) {
		t.Fatal("refused")
	}
	await(t, "both to know", func() bool { return members[0].left(t, "a") == 496 && members[1].left(t, "a") == 496 })
	for _, tt := range []struct {
		rules string
		left  uint64
	}{
		{"[{id: a, limit: 700/hour, mode: fast}, {id: other, limit: 5/hour}]", 696},
		{"[{id: a, limit: 700/minute, mode: fast}]", 696},
		{"[{id: new, limit: 9/hour}, {id: a, limit: 4/hour, mode: fast}]", 0},
		{"[{id: b, limit: 4/hour, mode: fast}, {id: a, limit: 400/hour, mode: fast}]", 396},
	} {
		rules(tt.rules)
		for _, m := range members {
			m.svc.ReadRules(t.Context())
			if problems := m.svc.Problems(); len(problems) > 0 {
				t.Fatal(problems)
			}
			if n := m.left(t, "a"); n != tt.left {
				t.Errorf("%s: %d left, want %d", tt.rules, n, tt.left)
			}
		}
	}
}

func costing(n uint32, pairs ...string) *quotav1.CheckRequest {
	return &quotav1.CheckRequest{Subject: subject(pairs...), Cost: &n}
}

// TestAFastRuleOverProcesses asks three processes for one key, each 2,000 times a
// second, and holds every second against the limit and what the process that
// admitted last may not have heard of.
func TestAFastRuleOverProcesses(t *testing.T) {
	const limit, silence = 1500, 250 * time.Millisecond
	all := nodes(t, fmt.Sprintf(`
cluster: {enabled: true, lease: 10s, patience: 5s}
fast: {silence: %v}
rules: [{id: all, limit: %d/second, mode: fast}]
`, silence, limit), 3, natsServer(t).URL())
	var mu sync.Mutex
	var admitted []fastCall
	degraded := 0
	began := time.Now()
	const span, each = 4 * time.Second, 2000
	var g sync.WaitGroup
	for n := range all {
		var sent atomic.Int64
		for range 16 {
			g.Go(func() {
				for time.Since(began) < span {
					due := time.Duration(sent.Add(1)) * time.Second / each
					<-time.After(due - time.Since(began))
					c := fastCall{node: n, call: call{sent: time.Since(began)}}
					res, err := all[n].Check(t.Context(), check("ip", "192.0.2.1"))
					c.received = time.Since(began)
					switch {
					case err != nil && !fault.Is(err, quotav1.Reason_REASON_PEERS_LOST):
						t.Error(err)
					case res.GetAllowed():
						mu.Lock()
						admitted = append(admitted, c)
						if res.GetDegraded() {
							degraded++
						}
						mu.Unlock()
					}
				}
			})
		}
	}
	g.Wait()
	most := worstSecond(t, admitted, limit, silence+50*time.Millisecond)
	if len(admitted) < limit {
		t.Errorf("%d admitted of the first %d", len(admitted), limit)
	}
	t.Logf("%d admitted, %d of them while another was silent; at most %d of %d in a second", len(admitted), degraded, most, limit)
}

type fastCall struct {
	node int
	call
}

// worstSecond holds each second against what it may admit: the limit, and what
// others have admitted within the time that a word may take before the last
// admission. Calls count that lie in the second as a whole, and all those of others
// that may have been within that time. It returns the most that one has admitted.
func worstSecond(t *testing.T, admitted []fastCall, limit int, word time.Duration) (most int) {
	t.Helper()
	slices.SortFunc(admitted, func(a, b fastCall) int { return int(a.received - b.received) })
	first := 0
	for last, end := range admitted {
		for admitted[first].received <= end.sent-time.Second {
			first++
		}
		n, unheard := 0, 0
		for _, c := range admitted[first : last+1] {
			if c.sent > end.received-time.Second {
				n++
			}
			if c.node != end.node && c.received > end.sent-word {
				unheard++
			}
		}
		if n > limit+unheard {
			t.Fatalf("the second until %v has admitted %d; the limit is %d, and of %d it could not be heard", end.received, n, limit, unheard)
		}
		most = max(most, n)
	}
	return most
}

// A process that is walled off shares: it admits its part of the limit and says that
// it is degraded, and when the wall is down all count together again.
func TestAFastRuleBehindAWall(t *testing.T) {
	nats := natsServer(t).URL()
	w := newWall(t, nats)
	all := nodes(t, `
cluster: {enabled: true, lease: 5s, patience: 1s}
fast: {silence: 1s}
rules: [{id: all, key: [ip], limit: 300/hour, mode: fast}]
`, 3, nats, nats, w.url)
	spendAll := func(n *node, times int) (allowed, degraded int) {
		t.Helper()
		for range times {
			res, err := n.Check(t.Context(), check("ip", "192.0.2.1"))
			if err != nil {
				t.Fatal(err)
			}
			if res.GetAllowed() {
				allowed++
			}
			if res.GetDegraded() {
				degraded++
			}
		}
		return allowed, degraded
	}
	await(t, "a decision that is not degraded", func() bool {
		return !slices.ContainsFunc(all, func(n *node) bool {
			res, err := n.Peek(t.Context(), &quotav1.PeekRequest{Subject: subject("ip", "192.0.2.9")})
			return err != nil || res.GetCheck().GetDegraded()
		})
	})
	w.raise()
	await(t, "silence", func() bool {
		res, err := all[2].Peek(t.Context(), &quotav1.PeekRequest{Subject: subject("ip", "192.0.2.1")})
		return err == nil && res.GetCheck().GetDegraded()
	})
	alone, degraded := spendAll(all[2], 400)
	if alone != 100 || degraded != 400 {
		t.Errorf("behind the wall %d were admitted, want a third of 300; %d of 400 answers say that they are degraded", alone, degraded)
	}
	for _, degraded := range []bool{true, false} { // what it misses, and what it counts without it
		await(t, fmt.Sprintf("the others to be degraded: %t", degraded), func() bool {
			res, err := all[0].Peek(t.Context(), &quotav1.PeekRequest{Subject: subject("ip", "192.0.2.1")})
			return err == nil && res.GetCheck().GetDegraded() == degraded
		})
	}
	together, _ := spendAll(all[0], 400)
	if together != 300 {
		t.Errorf("before the wall %d were admitted, want 300", together)
	}
	w.fall()
	await(t, "all to know of each other", func() bool {
		return !slices.ContainsFunc(all, func(n *node) bool {
			res, err := n.Check(t.Context(), check("ip", "192.0.2.1"))
			return err != nil || res.GetDegraded() || res.GetAllowed()
		})
	})
	for i, n := range all {
		res, err := n.Check(t.Context(), check("ip", "192.0.2.1"))
		if err != nil || res.GetAllowed() || res.GetRetryAfter().AsDuration() > 67*time.Minute || res.GetRetryAfter().AsDuration() <= 0 {
			t.Errorf("node %d: %v, %v", i, res, err)
		}
	}
}
