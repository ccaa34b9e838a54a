package quota_test

import (
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/quota"
)

func TestFastModeWhereItMakesNoSense(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ rule, want string }{
		"concurrency": {
			"{id: a, limit: 5000/second, concurrency: {max: 3}, mode: fast}", "rules[0].mode: cannot be fast for a rule with concurrency",
		},
		"a durable quota": {
			"{id: a, quota: {amount: 5, per: day}, mode: fast}", "rules[0].mode: is of no use in a rule with a quota",
		},
		"gcra":           {"{id: a, limit: 5000/second, algorithm: gcra, mode: fast}", "rules[0].mode: gcra cannot be counted in fast mode"},
		"windows":        {"{id: a, limit: 5000/second, algorithm: fixed, mode: fast}", "rules[0].mode: fixed windows of fast mode are those of the clock"},
		"a penalty":      {"{id: a, limit: 5000/second, penalty: extend, mode: fast}", "rules[0].mode: a penalty cannot be counted in fast mode"},
		"no such mode":   {"{id: a, limit: 5000/second, mode: quick}", `rules[0].mode: "quick" is not one of [strict fast]`},
		"all of a sort":  {`{id: a, limit: "5000/second;90000/minute", algorithm: gcra, mode: fast}`, "rules[0].mode: gcra cannot be"},
		"strict is fine": {"{id: a, limit: 5/second, mode: strict}", ""},
		"fast is fine":   {`{id: a, limit: "5000/second;90000/minute", mode: fast, on_unavailable: deny}`, ""},
		"of the clock":   {"{id: a, limit: 5000/minute, algorithm: fixed, windows: clock, mode: fast}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := quota.ParseRules([]byte("rules:\n  - " + tt.rule + "\n"))
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), "rules.yaml:2:") || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want it to say %q, and where", err, tt.want)
			case err != nil && strings.Count(err.Error(), "\n") > 0:
				t.Errorf("more than is wrong: %v", err)
			}
		})
	}
}

func TestASmallLimitInFastModeIsWarnedOf(t *testing.T) {
	t.Parallel()
	r := newRuled(t, `rules:
  - {id: small, limit: 60/minute, mode: fast}
  - {id: large, limit: 6000/minute, mode: fast}
`)
	logs := r.log.String()
	if want := "each further node may admit 60 more at 10,000 checks a second"; !strings.Contains(logs, want) || !strings.Contains(logs, "rules.yaml:2:") {
		t.Errorf("the log does not say %q, and where:\n%s", want, logs)
	}
	if strings.Contains(logs, "large") {
		t.Errorf("a large limit is warned of:\n%s", logs)
	}
	// A node that counts alone counts strictly.
	if got, _ := r.spend(70, "user", "ann"); got != 60 {
		t.Errorf("a node that counts alone admitted %d of 60", got)
	}
	resp := explain(t, r.Service)
	e := resp.GetRules()[0]
	if e.GetMode() != "fast" || e.GetOnUnavailable() != "share" || e.GetExcess() != 0 || e.GetMostAdmitted() != 60 ||
		e.GetNotes()[0] != "In fast mode several nodes would count; this one counts alone, and the limit holds." {
		t.Errorf("explained as %v", e)
	}
}

func TestTheFastSectionIsChecked(t *testing.T) {
	t.Parallel()
	cfg := quota.DefaultConfig()
	cfg.Fast.Every, cfg.Fast.Silence = 0, 1
	err := cfg.Validate()
	for _, want := range []string{"fast.every: 0s is not from 1ms to 100ms", "fast.silence: 1ns is not from 50ms to 10s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}
