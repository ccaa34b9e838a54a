//go:build cluster

package quota_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

const leaseRules = `
cluster: {enabled: true, lease: 10s, patience: 5s}
rules:
  - {id: a, key: [user], limit: 32000/hour}
  - {id: b, key: [ip], limit: 64000/hour}
  - {id: c, match: {tool: hot}, key: [tool], limit: 3000/hour}
`

// A lease is charged where its keys are owned, and comes back there.
func TestLeasesOfSeveralNodesAreOneCount(t *testing.T) {
	server := natsServer(t)
	members := []*member{join(t, server.URL(), leaseRules), join(t, server.URL(), leaseRules)}
	holders := []*holder{hold(t, members[0]), hold(t, members[1])}
	for i := range 40 { // of each owner, and of two at once
		req := func() *quotav1.CheckRequest {
			return check("user", fmt.Sprint("u", i), "ip", fmt.Sprintf("192.0.2.%d", i))
		}
		h, other := holders[i%2], members[(i+1)%2]
		l := h.ask(100, req()).GetLease()
		if l.GetChecks() != 100 || l.GetLife().AsDuration() < time.Millisecond {
			t.Fatalf("key %d: got the lease %v", i, l)
		}
		if got := left(t, other, req()); got != 32000-101 {
			t.Errorf("key %d: %d are left, want %d", i, got, 32000-101)
		}
		h.giveBack(l.GetId(), 60)
		await(t, "what is not used to come back", func() bool { return left(t, other, req()) == 32000-41 })
	}
}

// Callers of two nodes use a limit up, by leases where there are some, and are
// together admitted exactly as much.
func TestLeasesNeverAdmitMoreThanTheLimit(t *testing.T) {
	server := natsServer(t)
	members := []*member{join(t, server.URL(), leaseRules), join(t, server.URL(), leaseRules)}
	steady(t, members...)
	var wg sync.WaitGroup
	var admitted, leased atomic.Int64
	for i := range 6 {
		wg.Go(func() {
			h := hold(t, members[i%2])
			defer h.close()
			for {
				resp := h.ask(4096, check("user", fmt.Sprint(i), "ip", fmt.Sprint("192.0.2.", i), "tool", "hot"))
				if !resp.GetAllowed() {
					return
				}
				admitted.Add(1 + int64(resp.GetLease().GetChecks())) // it uses all of it
				leased.Add(int64(resp.GetLease().GetChecks()))
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 3000 || leased.Load() < 500 {
		t.Errorf("%d were admitted, %d of them by leases; 3000 is the limit", admitted.Load(), leased.Load())
	}
}
