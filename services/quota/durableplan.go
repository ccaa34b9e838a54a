package quota

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/calendar"
)

// Quota is a limit of a calendar period that outlives every process: what was
// spent is in the ledger, and a caller hears of it when it is there. Without the
// ledger nothing is spent.
type Quota struct {
	// Amount is what one key may spend in a period.
	Amount uint64 `yaml:"amount"`
	// Per is the period: day, week or month.
	Per string `yaml:"per"`
	// Starts is the day a period starts on: 1 (Monday) to 7 of a week, 1 to 31 of a
	// month; in a month that is too short the last. 1 when zero.
	Starts int `yaml:"starts"`
	// TZ is the time zone whose midnights count, such as Europe/Berlin; UTC when
	// empty. To change it, Per, Starts, Unit or the rule's key begins a new count; to change
	// Amount does not.
	TZ string `yaml:"tz"`
	// Unit is what is counted: calls (the default), which checks spend, or another
	// name such as llm_tokens, which is reserved and committed.
	Unit string `yaml:"unit"`
	// OnExpire is what a reservation costs that nobody settles: estimate (the
	// default; it may have been spent) or zero.
	OnExpire string `yaml:"on_expire"`
	// TTL is how long a reservation lives at most; ten minutes when zero.
	TTL time.Duration `yaml:"ttl"`
}

// Bounds of quotas.
const (
	maxQuotas = 16 // of one check
	// maxAmount leaves room to add up, and is a round number to people.
	maxAmount = 1_000_000_000_000_000
	// quotaTTL is how long a reservation lives if the rule does not say.
	quotaTTL = 10 * time.Minute
)

// unitCalls is the unit that checks spend.
const unitCalls = "calls"

// quota is one durable limit as answers show it.
type quota struct {
	name    string
	rule    int
	id      uint64 // names it on all nodes, and in the ledger
	unit    string
	amount  uint64
	periods calendar.Periods
	free    bool // on expiry
	ttl     time.Duration
	shadow  bool
	order   int // among all bounds
	current *atomic.Pointer[period]
}

// period is a span of time, in seconds since 1970.
type period struct{ start, end int64 }

// period is the one of a moment.
func (q *quota) period(now time.Time) period {
	if p := q.current.Load(); p != nil && p.start <= now.Unix() && now.Unix() < p.end {
		return *p
	}
	start, end := q.periods.At(now)
	p := &period{start.Unix(), end.Unix()}
	q.current.Store(p)
	return *p
}

// quota reads a rule with a durable limit.
func (b *builder) quota(r Rule, c rule) {
	b.alone(r)
	q := r.Quota
	b.amount("quota.amount", q.Amount)
	b.choice("on_unavailable", r.OnUnavailable, "deny")
	if q.Per == "" {
		b.fail("quota.per", "is missing; write day, week or month")
	}
	unit := calendar.Day
	switch b.choice("quota.per", q.Per, "day", "week", "month") {
	case "week":
		unit = calendar.Week
	case "month":
		unit = calendar.Month
	}
	periods, err := calendar.New(unit, q.Starts, q.TZ)
	if err != nil {
		b.fail("quota", "%w", err)
	}
	if q.Unit != "" && !isName(q.Unit, 32, '_') {
		b.fail("quota.unit", "%q must be 1 to 32 lower-case letters, digits and underscores, a letter first", q.Unit)
	}
	if q.TTL < 0 || q.TTL > maxTTL {
		b.fail("quota.ttl", "%v is not from 0 to %v", q.TTL, maxTTL)
	}
	free := b.choice("quota.on_expire", q.OnExpire, "estimate", "zero") == "zero"
	sum := sha256.Sum256(fmt.Appendf(nil, "quota %q %q %q %q %d %q", r.ID, r.Key, cmp.Or(q.Unit, unitCalls), q.Per, max(q.Starts, 1), cmp.Or(q.TZ, "UTC")))
	base := quota{
		name: r.ID, rule: len(b.rules), id: binary.LittleEndian.Uint64(sum[:]), unit: cmp.Or(q.Unit, unitCalls), amount: q.Amount,
		periods: periods, free: free, ttl: cmp.Or(q.TTL, quotaTTL), shadow: r.Shadow, order: b.bounds(), current: new(atomic.Pointer[period]),
	}
	c.terms.quotas = b.addQuota(base)
	outer := b.path
	for i, o := range r.Overrides {
		b.path = fmt.Sprintf("%s.overrides[%d]", outer, i)
		c.overrides = append(c.overrides, b.quotaOverride(base, o))
	}
	b.path = outer
	b.rules = append(b.rules, c)
}

// alone refuses what a rule with a quota cannot have.
func (b *builder) alone(r Rule) {
	for _, other := range []struct {
		name string
		set  bool
	}{
		{"limit", len(r.Limit) > 0},
		{"concurrency", r.Concurrency != Concurrency{}},
		{"algorithm", r.Algorithm != ""},
		{"burst", r.Burst != 0},
		{"kind", r.Kind != ""},
		{"windows", r.Windows != ""},
		{"penalty", r.Penalty != ""},
		{"mode", r.Mode != ""},
	} {
		if other.set {
			b.fail(other.name, "is of no use in a rule with a quota; write another rule for it")
		}
	}
}

func (b *builder) amount(name string, amount uint64) {
	if amount < 1 || amount > maxAmount {
		b.fail(name, "%d is not from 1 to %d", amount, uint64(maxAmount))
	}
}

func (b *builder) addQuota(q quota) []uint32 {
	b.plan.quotas = append(b.plan.quotas, q)
	return []uint32{uint32(len(b.plan.quotas) - 1)}
}

// quotaOverride is another amount of the same count.
func (b *builder) quotaOverride(base quota, o Override) override {
	if len(o.When) == 0 {
		b.fail("when", "is missing")
	}
	c := override{when: b.conditions("when", o.When)}
	switch {
	case len(o.Limit) > 0 || o.Burst > 0:
		b.fail("limit", "is not for a rule with a quota; write amount")
	case o.Unlimited && o.Amount > 0:
		b.fail("amount", "contradicts unlimited")
	case o.Unlimited:
	case o.Amount == 0:
		b.fail("amount", "is missing, and so is unlimited")
	default:
		b.amount("amount", o.Amount)
		base.amount = o.Amount
		c.terms = terms{quotas: b.addQuota(base)}
	}
	return c
}

// mostQuotas is how many quotas may match one check.
func (x *index) mostQuotas() int {
	most := 0
	for _, cell := range x.cells {
		n := 0
		for _, c := range cell {
			n += len(c.terms.quotas)
		}
		most = max(most, n)
	}
	return most
}
