//go:build cluster

package quota_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// join starts a member, and waits until it serves.
func join(t testing.TB, url, rules string) *member {
	t.Helper()
	m := startOn(t, onBus(url), rules)
	await(t, "a member to serve", func() bool { return m.svc.Ready(t.Context()) == nil })
	return m
}

// steady waits until members count together, and no key moves from one to another any
// more: a reservation for a key that has just moved cannot be undone.
func steady(t *testing.T, members ...*member) {
	t.Helper()
	await(t, "all to serve", func() bool {
		return !slices.ContainsFunc(members, func(m *member) bool {
			return m.svc.Ready(t.Context()) != nil || int(explain(t, m.svc).GetNodes()) != len(members)
		})
	})
}

const clusterRules = `
cluster: {enabled: true, lease: 1s}
rules:
  - {id: per-ip, match: {action: tools/call}, key: [ip], limit: 10/minute}
  - {id: per-user, match: {action: tools/call}, key: [user], limit: 1000000/hour}
  - {id: all, match: {action: tools/call}, limit: 100000000/hour}
  - {id: slow, match: {tool: slow}, key: [user], concurrency: {max: 2}}
`

// patientRules are for a machine that has other things to do.
var patientRules = strings.Replace(clusterRules, "lease: 1s", "lease: 10s, patience: 5s", 1)

func TestMembersCountAsOne(t *testing.T) {
	t.Parallel()
	countAsOne(t, onBus(natsServer(t).URL()))
}

func countAsOne(t *testing.T, on bus.Config) {
	t.Helper()
	members := []*member{startOn(t, on, patientRules), startOn(t, on, patientRules), startOn(t, on, patientRules)}
	steady(t, members...)
	// 100 simultaneous calls over all nodes, for each of many keys.
	counts := make([]atomic.Int32, 200)
	var g sync.WaitGroup
	for i := range counts {
		for c := range 100 {
			g.Go(func() {
				res, err := members[c%3].Check(t.Context(), check("action", "tools/call", "ip", fmt.Sprintf("192.0.2.%d", i), "user", fmt.Sprint(i%7)))
				switch {
				case err != nil:
					t.Error(err)
				case res.GetAllowed():
					counts[i].Add(1)
				case res.GetRule() != "per-ip" || res.GetRetryAfter().AsDuration() > time.Minute:
					t.Errorf("refused with %v", res)
				}
			})
		}
		if i%10 == 9 {
			g.Wait()
		}
	}
	for i := range counts {
		if n := counts[i].Load(); n != 10 {
			t.Errorf("key %d: admitted %d of 10", i, n)
		}
	}
}

func TestAMemberThatDies(t *testing.T) {
	t.Parallel()
	url := natsServer(t).URL()
	// A busy machine may hold up a renewal for a second, but hardly for five.
	rules := strings.Replace(clusterRules, "lease: 1s", "lease: 5s, patience: 2s", 1)
	members := []*member{startOn(t, onBus(url), rules), startOn(t, onBus(url), rules), startOn(t, onBus(url), rules)}
	steady(t, members...)
	req := func(i int) *quotav1.CheckRequest {
		return check("action", "tools/call", "ip", fmt.Sprintf("2001:db8:%x::1", i), "user", "ann")
	}
	for i := range 300 { // half of each limit
		for range 5 {
			if res, err := members[i%3].Check(t.Context(), req(i)); err != nil || !res.GetAllowed() {
				t.Fatal(res, err)
			}
		}
	}
	await(t, "copies", func() bool { // which take 2 ms; a check takes as long
		_, err := members[0].Check(t.Context(), req(1000))
		return err == nil
	})
	copied := time.Now()
	await(t, "copies", func() bool { return time.Since(copied) > 20*time.Millisecond })

	members[2].bus.Close()
	members[2].hangUp()
	died := time.Now()
	_, err := members[0].Check(t.Context(), check("action", "tools/call", "ip", "192.0.2.1", "user", "bob"))
	if err != nil && (status.Code(err) != codes.Unavailable || !fault.Is(err, quotav1.Reason_REASON_PEERS_LOST)) {
		t.Errorf("while a node is gone: got %v", err)
	}
	await(t, "a takeover", func() bool {
		for i := range 300 {
			if _, err := members[0].Peek(t.Context(), &quotav1.PeekRequest{Subject: req(i).GetSubject()}); err != nil {
				return false
			}
		}
		return true
	})
	t.Logf("everything has an owner again after %v", time.Since(died))
	for i := range 300 {
		n := 5
		for range 10 {
			res, err := members[i%2].Check(t.Context(), req(i))
			if err != nil {
				t.Fatal(err)
			}
			if res.GetAllowed() {
				n++
			}
		}
		if n != 10 {
			t.Errorf("key %d: admitted %d of 10", i, n)
		}
	}
}

func TestIdempotencyKeysHoldOnEveryMember(t *testing.T) {
	t.Parallel()
	url := natsServer(t).URL()
	members := []*member{join(t, url, patientRules), join(t, url, patientRules)}
	await(t, "the first to serve again", func() bool { return members[0].svc.Ready(t.Context()) == nil })
	for i := range 20 {
		var first *quotav1.CheckResponse
		for j := range 4 {
			req := check("action", "tools/call", "ip", fmt.Sprintf("192.0.2.%d", i), "user", "ann")
			req.IdempotencyKey = fmt.Sprint("k", i)
			res, err := members[j%2].Check(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = res
			}
			if !proto.Equal(first, res) {
				t.Errorf("a repetition: got %v, want %v", res, first)
			}
		}
	}
}

func TestBatchesPermitsAndUsageOfMembers(t *testing.T) {
	t.Parallel()
	url := natsServer(t).URL()
	members := []*member{join(t, url, patientRules), join(t, url, patientRules)}
	await(t, "the first to serve again", func() bool { return members[0].svc.Ready(t.Context()) == nil })
	batch := &quotav1.CheckBatchRequest{}
	for range 300 {
		batch.Checks = append(batch.Checks, check("action", "tools/call", "ip", "192.0.2.9", "user", "ann"))
	}
	res, err := members[0].CheckBatch(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	allowed := 0
	for _, r := range res.GetResults() {
		if r.GetAllowed() {
			allowed++
		}
	}
	if allowed != 10 {
		t.Errorf("a batch: %d admitted, want 10", allowed)
	}
	var ids []string
	for i := range 4 {
		res, err := members[i%2].Acquire(t.Context(), &quotav1.AcquireRequest{Subject: subject("tool", "slow", "user", "ann")})
		if err != nil {
			t.Fatal(err)
		}
		if got := res.GetCheck().GetAllowed(); got != (i < 2) {
			t.Errorf("permit %d: got %v", i, got)
		}
		ids = append(ids, res.GetPermitId())
	}
	for i, m := range members {
		u, err := m.Usage(t.Context(), &quotav1.UsageRequest{Subject: subject("tool", "slow", "user", "ann", "action", "tools/call", "ip", "192.0.2.9")})
		if err != nil {
			t.Fatal(err)
		}
		var left []uint64
		for _, l := range u.GetLimits() {
			left = append(left, l.GetRemaining())
		}
		if len(left) != 4 || left[0] != 0 || left[3] != 0 {
			t.Errorf("usage on node %d: %v", i, u)
		}
	}
	if _, err := members[0].Release(t.Context(), &quotav1.ReleaseRequest{PermitId: ids[0]}); err != nil {
		t.Fatal(err)
	}
	if res, err := members[1].Acquire(t.Context(), &quotav1.AcquireRequest{Subject: subject("tool", "slow", "user", "ann")}); err != nil || !res.GetCheck().GetAllowed() {
		t.Errorf("a permit after one was given back: %v, %v", res, err)
	}
}
