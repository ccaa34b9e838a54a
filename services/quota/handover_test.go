//go:build cluster

package quota_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestNobodyNoticesThatMembersComeAndGo(t *testing.T) {
	t.Parallel()
	url := natsServer(t).URL()
	rules := strings.Replace(patientRules, "10/minute", "10/hour", 1) // a busy machine takes minutes for all this
	members := []*member{startOn(t, onBus(url), rules), startOn(t, onBus(url), rules), startOn(t, onBus(url), rules)}
	steady(t, members...)
	const keys = 2000
	counts := make([]int, keys)
	var slowest time.Duration
	spend := func(i int) {
		t.Helper()
		began := time.Now()
		res, err := members[i%2].Check(t.Context(), check("action", "tools/call", "ip", fmt.Sprintf("2001:db8:%x::1", i%keys), "user", fmt.Sprint(i%50)))
		slowest = max(slowest, time.Since(began))
		if err != nil {
			t.Fatal(err)
		}
		if res.GetAllowed() {
			counts[i%keys]++
		}
	}
	i := 0
	while := func(goesOn func() bool) {
		t.Helper()
		for ; goesOn(); i++ {
			spend(i)
		}
	}
	until := func(n int) { while(func() bool { return i < n }) }
	until(3 * keys) // a third of each limit
	members[2].leave()
	while(func() bool {
		select {
		case <-members[2].stopped:
			return false
		default:
			return true
		}
	})
	t.Logf("one has left; the slowest check took %v", slowest)
	slowest = 0
	fresh := startOn(t, onBus(url), rules)
	while(func() bool { return fresh.svc.Ready(t.Context()) != nil })
	t.Logf("one has come; the slowest check took %v", slowest)
	until(i + 12*keys)
	sum := 0
	for k, n := range counts {
		if sum += n; n > 10 {
			t.Errorf("key %d: admitted %d of 10", k, n)
		}
	}
	// A reservation cannot be undone where the slot has moved in between.
	if least := 10*keys - 10; sum < least {
		t.Errorf("admitted %d in all, want %d at least", sum, least)
	}
}
