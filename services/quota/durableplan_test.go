package quota_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/quota"
)

func TestAQuotaIsRead(t *testing.T) {
	t.Parallel()
	got, err := read(`rules: [{id: a, key: [tenant], on_unavailable: deny, overrides: [{when: {plan: pro}, amount: 9}, {when: {role: x}, unlimited: true}],
  quota: {amount: 20_000_000, per: month, starts: 31, tz: Europe/Berlin, unit: llm_tokens, on_expire: zero, ttl: 10m}}]`)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Validate(); err != nil {
		t.Fatal(err)
	}
	want := []quota.Rule{{
		ID: "a", Key: []string{"tenant"}, OnUnavailable: "deny",
		Quota: quota.Quota{
			Amount: 20_000_000, Per: "month", Starts: 31, TZ: "Europe/Berlin", Unit: "llm_tokens", OnExpire: "zero", TTL: 10 * time.Minute,
		},
		Overrides: []quota.Override{
			{When: map[string]quota.Strings{"plan": {"pro"}}, Amount: 9},
			{When: map[string]quota.Strings{"role": {"x"}}, Unlimited: true},
		},
	}}
	if diff := cmp.Diff(want, got.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

func TestAQuotaIsRefused(t *testing.T) {
	t.Parallel()
	many := "rules:\n"
	for range 17 {
		many += "  - {id: q" + strings.Repeat("x", strings.Count(many, "\n")) + ", quota: {amount: 1, per: day}}\n"
	}
	tests := []struct {
		name, text string
		want       string
	}{
		{"without amount", "quota: {per: day}", "rules[0].quota.amount: 0 is not from 1 to"},
		{"with too large an amount", "quota: {per: day, amount: 1_000_000_000_000_001}", "rules[0].quota.amount: 1000000000000001 is not"},
		{"without period", "quota: {amount: 1}", "rules[0].quota.per: is missing; write day, week or month"},
		{"of an hour", "quota: {amount: 1, per: hour}", `rules[0].quota.per: "hour" is not one of [day week month]`},
		{"of a day that starts later", "quota: {amount: 1, per: day, starts: 2}", "rules[0].quota: starts: 2 is for weeks and months only"},
		{"of a month that starts on the 32nd", "quota: {amount: 1, per: month, starts: 32}", "rules[0].quota: starts: 32 is not from 1 to 31"},
		{"in no time zone", "quota: {amount: 1, per: day, tz: Berlin}", `rules[0].quota: tz: "Berlin" is no time zone`},
		{"of no unit", "quota: {amount: 1, per: day, unit: LLM tokens}", `rules[0].quota.unit: "LLM tokens" must be`},
		{"with another end", "quota: {amount: 1, per: day, on_expire: half}", `rules[0].quota.on_expire: "half" is not one of`},
		{"with a long ttl", "quota: {amount: 1, per: day, ttl: 25h}", "rules[0].quota.ttl: 25h0m0s is not"},
		{"with a rate", "quota: {amount: 1, per: day}, limit: 1/s", "rules[0].limit: is of no use in a rule with a quota"},
		{"with permits", "quota: {amount: 1, per: day}, concurrency: {max: 1}", "rules[0].concurrency: is of no use in a rule with a quota"},
		{"with an algorithm", "quota: {amount: 1, per: day}, algorithm: gcra", "rules[0].algorithm: is of no use"},
		{"with a kind", "quota: {amount: 1, per: day}, kind: steps", "rules[0].kind: is of no use"},
		{"that is open when the ledger is away", "quota: {amount: 1, per: day}, on_unavailable: allow", `rules[0].on_unavailable: "allow" is not one of [deny]`},
		{"with a rate for some", "quota: {amount: 1, per: day}, overrides: [{when: {plan: x}, limit: 1/s}]", "rules[0].overrides[0].limit: is not for a rule with a quota"},
		{"with nothing for some", "quota: {amount: 1, per: day}, overrides: [{when: {plan: x}}]", "rules[0].overrides[0].amount: is missing"},
		{"for some both ways", "quota: {amount: 1, per: day}, overrides: [{when: {plan: x}, amount: 2, unlimited: true}]", "rules[0].overrides[0].amount: contradicts"},
		{"for everybody else", "quota: {amount: 1, per: day}, overrides: [{amount: 2}]", "rules[0].overrides[0].when: is missing"},
		{"for some of a rate", "limit: 1/s, overrides: [{when: {plan: x}, amount: 2}]", "rules[0].overrides[0].amount: has no quota"},
		{"with an unknown key", "quota: {amount: 1, per: day, unlimited: true}", "field unlimited not found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			refused(t, "rules: [{id: a, "+tt.text+"}]", tt.want)
		})
	}
	refused(t, many, "rules: up to 17 quotas match one check, which may have 16")
	refused(t, "max_bookings: 0", "max_bookings: 0 is not from 1 to")
}

func refused(t *testing.T, text, want string) {
	t.Helper()
	cfg, err := read(text)
	if err == nil {
		err = cfg.Validate()
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want it to contain %q", err, want)
	}
}
