package quota_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
)

// A durable quota keeps what was spent when its amount changes, when rules around
// it come and go, and when it was away meanwhile. One that is new begins to count.
func TestQuotasAcrossChangesOfRules(t *testing.T) {
	t.Parallel()
	const week = `rules: [{id: q, key: [user], quota: {amount: 5, per: week}}]`
	r := newRuled(t, `rules: [{id: a, key: [user], limit: 100/minute}]`)
	r.WaitForLedger(time.Minute)
	r.SetClock(func() time.Time { return evening })
	r.KeepLedger(bustest.New(t), 1000, 1000, slog.New(slog.NewTextHandler(t.Output(), nil)))
	spends := func(rules string, n, want int) {
		t.Helper()
		r.change(rules)
		if p := r.Problems(); len(p) > 0 {
			t.Fatal(p)
		}
		if got, last := r.spend(n, "user", "ann"); got != want {
			t.Errorf("%s: %d of %d were allowed, want %d; the last: %v", rules, got, n, want, last)
		}
	}
	spends(week, 3, 3)
	spends(`rules: [{id: b, key: [user], limit: 100/minute}, {id: q, key: [user], quota: {amount: 4, per: week}}]`, 3, 1)
	spends(`rules: [{id: b, key: [user], limit: 100/minute}]`, 9, 9)
	spends(week, 3, 1)
	spends(`rules: [{id: q, key: [user], quota: {amount: 5, per: month}}]`, 3, 3) // another count
}
