package quota_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sallyport-mcp/sallyport/services/quota"
)

// read decodes YAML over the defaults as package app does.
func read(text string) (quota.Config, error) {
	cfg := quota.DefaultConfig()
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	return cfg, d.Decode(&cfg)
}

func TestConfigIsRead(t *testing.T) {
	t.Parallel()
	got, err := read(`
attributes: [region]
max_keys: 5000
rules:
  - id: a
    match: {tool: echo, action: [tools/call, tools/list], region: "eu-*"}
    key: [tenant, ip/56]
    limit: 10/minute;100/hour
  - id: b
    key: []
    limit: ["5 per 15 minutes", 1/second]
    algorithm: gcra
    kind: steps
    cost: one
    shadow: true
    on_unavailable: deny
    overrides:
      - {when: {plan: pro}, limit: 100/minute}
      - {when: {role: admin}, unlimited: true}
  - id: c
    concurrency: {max: 5, ttl: 30s}
`)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Validate(); err != nil {
		t.Fatal(err)
	}
	want := quota.DefaultConfig()
	want.Attributes = []string{"region"}
	want.MaxKeys = 5000
	want.Rules = []quota.Rule{{
		ID:    "a",
		Match: map[string]quota.Strings{"tool": {"echo"}, "action": {"tools/call", "tools/list"}, "region": {"eu-*"}},
		Key:   []string{"tenant", "ip/56"},
		Limit: quota.Strings{"10/minute;100/hour"},
	}, {
		ID:            "b",
		Key:           []string{},
		Limit:         quota.Strings{"5 per 15 minutes", "1/second"},
		Algorithm:     "gcra",
		Kind:          "steps",
		Cost:          "one",
		Shadow:        true,
		OnUnavailable: "deny",
		Overrides: []quota.Override{
			{When: map[string]quota.Strings{"plan": {"pro"}}, Limit: quota.Strings{"100/minute"}},
			{When: map[string]quota.Strings{"role": {"admin"}}, Unlimited: true},
		},
	}, {
		ID:          "c",
		Concurrency: quota.Concurrency{Max: 5, TTL: 30 * time.Second},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       []string // all of them, in one error
	}{
		{"an unknown key", "rules: [{id: a, limit: 1/s, widow: 1}]", []string{"field widow not found"}},
		{"a limit that is neither string nor list", "rules: [{id: a, limit: {per: minute}}]", []string{"cannot unmarshal"}},
		{"a rule without id", "rules: [{limit: 1/s}]", []string{"rules[0].id: \"\" must be"}},
		{"an id that is no token", "rules: [{id: Per IP, limit: 1/s}]", []string{`rules[0].id: "Per IP" must be`}},
		{"an id twice", "rules: [{id: a, limit: 1/s}, {id: a, limit: 1/s}]", []string{`rules[1].id: "a" is also the id of rules[0]`}},
		{"an unknown attribute to match", "rules: [{id: a, limit: 1/s, match: {ipp: x}}]", []string{"rules[0].match.ipp: is no attribute"}},
		{"an unknown attribute to count by", "rules: [{id: a, limit: 1/s, key: [ipp]}]", []string{`rules[0].key: "ipp" is no attribute`}},
		{"an attribute to count by twice", "rules: [{id: a, limit: 1/s, key: [ip, ip/56]}]", []string{`rules[0].key: "ip" stands there twice`}},
		{"a prefix that is no length", "rules: [{id: a, limit: 1/s, key: [ip/129]}]", []string{"rules[0].key: \"ip/129\": the prefix length"}},
		{"an empty pattern", `rules: [{id: a, limit: 1/s, match: {tool: ""}}]`, []string{"rules[0].match.tool: has an empty pattern"}},
		{"no pattern", `rules: [{id: a, limit: 1/s, match: {tool: []}}]`, []string{"rules[0].match.tool: has no pattern"}},
		{"no limit", "rules: [{id: a}]", []string{"rules[0].limit: is missing"}},
		{"a limit that is none", "rules: [{id: a, limit: fast}]", []string{`rules[0].limit: "fast" is no rate`}},
		{"two limits for one window", "rules: [{id: a, limit: [1/minute, 2/60s]}]", []string{"rules[0].limit: \"2/60s\" has the same window"}},
		{"a window too long", "rules: [{id: a, limit: 1/32days}]", []string{"rules[0].limit: \"1/32days\": the window must be"}},
		{"an unknown algorithm", "rules: [{id: a, limit: 1/s, algorithm: leaky}]", []string{`rules[0].algorithm: "leaky" is not one of`}},
		{"an unknown kind", "rules: [{id: a, limit: 1/s, kind: step}]", []string{`rules[0].kind: "step" is not one of`}},
		{"a loop of any call", "rules: [{id: a, limit: 1/s, kind: loop, key: [user, context]}]", []string{`rules[0].key: of a loop has to name context and call`}},
		{"an unknown cost", "rules: [{id: a, limit: 1/s, cost: two}]", []string{`rules[0].cost: "two" is not one of`}},
		{"unknown windows", "rules: [{id: a, limit: 1/s, windows: moon}]", []string{`rules[0].windows: "moon" is not one of`}},
		{"windows of the clock that slide", "rules: [{id: a, limit: 1/s, windows: clock}]", []string{"rules[0].limit: windows of the wall clock are for fixed only"}},
		{"windows of the clock that do not divide a day", "rules: [{id: a, limit: 1/7m, algorithm: fixed, windows: clock}]", []string{"rules[0].limit: a window of the wall clock must be a part of a day"}},
		{"an unknown penalty", "rules: [{id: a, limit: 1/s, penalty: jail}]", []string{`rules[0].penalty: "jail" is not one of`}},
		{"a penalty that the clock ends", "rules: [{id: a, limit: 1/s, algorithm: fixed, windows: clock, penalty: extend}]", []string{"rules[0].limit: a penalty cannot"}},
		{"a penalty of permits", "rules: [{id: a, concurrency: {max: 1}, penalty: extend}]", []string{"rules[0].limit: is missing, which"}},
		{"an unknown way out", "rules: [{id: a, limit: 1/s, on_unavailable: hope}]", []string{`rules[0].on_unavailable: "hope" is not one of`}},
		{"permits without their owner", "rules: [{id: a, concurrency: {max: 1}, on_unavailable: share}]", []string{"rules[0].on_unavailable: must be deny"}},
		{"a burst without gcra", "rules: [{id: a, limit: 1/s, burst: 2}]", []string{"rules[0].limit: burst 2 is for gcra only"}},
		{"a burst for two limits", "rules: [{id: a, limit: 1/s;2/m, burst: 2, algorithm: gcra}]", []string{"rules[0].burst: is for one limit"}},
		{"a burst without limit", "rules: [{id: a, concurrency: {max: 1}, burst: 2}]", []string{"rules[0].burst: is of no use"}},
		{"a burst that hardly refills", "rules: [{id: a, limit: 1/day, burst: 32, algorithm: gcra}]", []string{"rules[0].limit: burst 32 takes more than"}},
		{"permits without a number", "rules: [{id: a, limit: 1/s, concurrency: {ttl: 1s}}]", []string{"rules[0].concurrency.max: 0 is not"}},
		{"permits that live too long", "rules: [{id: a, concurrency: {max: 1, ttl: 25h}}]", []string{"rules[0].concurrency.ttl: 25h0m0s is not"}},
		{"an override for everybody", "rules: [{id: a, limit: 1/s, overrides: [{limit: 2/s}]}]", []string{"rules[0].overrides[0].when: is missing"}},
		{"an override of nothing", "rules: [{id: a, limit: 1/s, overrides: [{when: {plan: x}}]}]", []string{"rules[0].overrides[0].limit: is missing"}},
		{
			"an override both ways", "rules: [{id: a, limit: 1/s, overrides: [{when: {plan: x}, limit: 1/m, unlimited: true}]}]",
			[]string{"rules[0].overrides[0].limit: contradicts"},
		},
		{
			"an override of an unknown attribute", "rules: [{id: a, limit: 1/s, overrides: [{when: {pln: x}, limit: 1/m}]}]",
			[]string{"rules[0].overrides[0].when.pln: is no attribute"},
		},
		{
			"an override of permits", "rules: [{id: a, concurrency: {max: 1}, overrides: [{when: {plan: x}, limit: 1/m}]}]",
			[]string{"rules[0].overrides[0].limit: has no limit"},
		},
		{"an attribute that is known", "attributes: [ip]", []string{`attributes[0]: "ip" is known already`}},
		{"an attribute that is no name", "attributes: [IP-2]", []string{`attributes[0]: "IP-2" must be`}},
		{"too little memory", "max_keys: 10", []string{"max_keys: 10 is not"}},
		{"too few replays", "max_replays: 1", []string{"max_replays: 1 is not"}},
		{"more limits than an answer can hold", manyRules(65), []string{"rules: up to 65 limits match one check"}},
		{"more limits than can be counted", manyLimits("a", 8192), []string{"rules: have 65544 limits, those of overrides too, and 65535 can"}},
		{"all mistakes at once", "max_keys: 10\nrules: [{id: a, key: [x]}, {id: a, limit: 1/y}]", []string{
			"max_keys: 10", "rules[0].key", "rules[0].limit", "rules[1].id", "rules[1].limit",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg, err := read(tt.text)
			if err == nil {
				err = cfg.Validate()
			}
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got error %q, want it to contain %q", err, want)
				}
			}
		})
	}
}

func manyRules(n int) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range n {
		b.WriteString("  - {limit: 1/s, id: r" + strings.Repeat("x", i%60) + strings.Repeat("y", i/60) + "}\n")
	}
	return b.String()
}

// manyLimits has a rule with n overrides, each and the rule itself with eight limits.
func manyLimits(id string, n int) string {
	const limits = "1/s;2/2s;3/3s;4/4s;5/5s;6/6s;7/7s;8/8s"
	var b strings.Builder
	fmt.Fprintf(&b, "rules:\n  - id: %s\n    limit: %s\n    overrides:\n", id, limits)
	for i := range n {
		fmt.Fprintf(&b, "      - {when: {tenant: t%d}, limit: %s}\n", i, limits)
	}
	return b.String()
}

func TestManyRulesForDifferentToolsAreFine(t *testing.T) {
	t.Parallel()
	cfg := quota.DefaultConfig()
	for i := range 500 {
		tool := "tool-" + strings.Repeat("x", i%30) + strings.Repeat("y", i/30)
		cfg.Rules = append(cfg.Rules, quota.Rule{ID: tool, Match: map[string]quota.Strings{"tool": {tool}}, Limit: quota.Strings{"1/s"}})
	}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestABurstyRuleIsWarnedOf(t *testing.T) {
	t.Parallel()
	cfg := quota.DefaultConfig()
	cfg.Rules = []quota.Rule{
		{ID: "smooth", Limit: quota.Strings{"10/minute"}, Algorithm: "gcra", Burst: 2},
		{ID: "bursty", Limit: quota.Strings{"10/minute"}, Algorithm: "gcra"},
		{ID: "plain", Limit: quota.Strings{"10/minute"}},
	}
	var logged bytes.Buffer
	if _, err := quota.New(cfg, nil, slog.New(slog.NewTextHandler(&logged, nil))); err != nil {
		t.Fatal(err)
	}
	if got := logged.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "rule=bursty") {
		t.Errorf("log: got %q, want one warning of bursty", got)
	}
}
