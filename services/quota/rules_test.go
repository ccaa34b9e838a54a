package quota_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// ruled is a service whose rules are in a file.
type ruled struct {
	*quota.Service
	t    *testing.T
	file string
	log  logged
	*meter
}

// logged keeps what is logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is all that was logged.
func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newRuled(t *testing.T, rules string) *ruled {
	t.Helper()
	r := &ruled{t: t, file: filepath.Join(t.TempDir(), "rules.yaml"), meter: newMeter()}
	r.write(rules)
	cfg := quota.DefaultConfig()
	cfg.RulesFiles = quota.Strings{r.file}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.Service, err = quota.New(cfg, r.meter, slog.New(slog.NewTextHandler(&r.log, nil))); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *ruled) write(rules string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(rules), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// change makes other rules hold at once.
func (r *ruled) change(rules string) {
	r.t.Helper()
	r.write(rules)
	r.ReadRules(r.t.Context())
}

// spend checks n times, and returns how often it was allowed and what the last
// answer was.
func (r *ruled) spend(n int, pairs ...string) (allowed int, last *quotav1.CheckResponse) {
	r.t.Helper()
	for range n {
		res, err := r.Check(r.t.Context(), check(pairs...))
		if err != nil {
			r.t.Fatal(err)
		}
		if last = res; res.GetAllowed() {
			allowed++
		}
	}
	return allowed, last
}

// What a rule has refused is counted on when it comes again, and kept when it is gone.
func TestRefusalsAreCountedOn(t *testing.T) {
	t.Parallel()
	const a, b = `rules: [{id: a, key: [user], limit: 1/hour}]`, `rules: [{id: b, key: [user], limit: 1/hour}]`
	r := newRuled(t, a)
	for _, step := range []struct {
		rules string
		spent int
		want  map[string]int64 // refusals
	}{
		{a, 3, map[string]int64{"a": 2}},
		{b, 2, map[string]int64{"a": 2, "b": 1}},
		{a, 4, map[string]int64{"a": 2 + 3, "b": 1}},
	} {
		r.change(step.rules)
		r.spend(step.spent, "user", fmt.Sprint("ann", step.spent))
		got := r.counts(t)
		for rule, want := range step.want {
			if n := got["sallyport.quota.checks allowed=false rule="+rule]; n != want {
				t.Errorf("%d refusals by %s, want %d", n, rule, want)
			}
		}
	}
}

func TestRulesChangeWhileCounting(t *testing.T) {
	t.Parallel()
	const five = `rules: [{id: a, key: [user], limit: 5/minute}]`
	for _, tt := range []struct {
		name   string
		before string
		then   string
		spent  int
		want   int // of ten more
	}{
		{"the same rules", five, five, 3, 2},
		{"a higher limit", five, `rules: [{id: a, key: [user], limit: 8/minute}]`, 5, 3},
		{"a lower limit", five, `rules: [{id: a, key: [user], limit: 4/minute}]`, 3, 1},
		{"a limit lower than what was spent", five, `rules: [{id: a, key: [user], limit: 2/minute}]`, 3, 0},
		{"another algorithm", five, `rules: [{id: a, key: [user], limit: 5/minute, algorithm: gcra}]`, 3, 2},
		{"a longer window", five, `rules: [{id: a, key: [user], limit: 5/hour}]`, 3, 2},
		{"other matches", five, `rules: [{id: a, match: {user: "*"}, key: [user], limit: 5/minute}]`, 3, 2},
		{"a rule in front", five, `rules: [{id: b, key: [user], limit: 9/minute}, {id: a, key: [user], limit: 5/minute}]`, 3, 2},
		{"a second limit", five, `rules: [{id: a, key: [user], limit: "9/hour;5/minute"}]`, 3, 2},
		{"one of two limits less", `rules: [{id: a, key: [user], limit: "9/hour;5/minute"}]`, five, 3, 2},
		{"another id", five, `rules: [{id: b, key: [user], limit: 5/minute}]`, 3, 5},
		{"another key", five, `rules: [{id: a, key: [tenant], limit: 5/minute}]`, 3, 5},
		{
			"an override for others",
			five, `rules: [{id: a, key: [user], limit: 5/minute, overrides: [{when: {user: bob}, limit: 7/minute}]}]`, 3, 2,
		},
		{
			"an override that changes",
			`rules: [{id: a, key: [user], limit: 1/minute, overrides: [{when: {user: ann}, limit: 7/minute}]}]`,
			`rules: [{id: a, key: [user], limit: 1/minute, overrides: [{when: {user: ann}, limit: 6/minute}]}]`, 3, 3,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRuled(t, tt.before)
			if got, _ := r.spend(tt.spent, "user", "ann"); got != tt.spent {
				t.Fatalf("before: allowed %d of %d", got, tt.spent)
			}
			r.change(tt.then)
			if p := r.Problems(); len(p) > 0 {
				t.Fatal(p)
			}
			if got, _ := r.spend(10, "user", "ann"); got != tt.want {
				t.Errorf("after: allowed %d of 10, want %d", got, tt.want)
			}
		})
	}
}

func TestPermitsLiveOnWhenRulesChange(t *testing.T) {
	t.Parallel()
	r := newRuled(t, `rules: [{id: a, key: [user], concurrency: {max: 2}}]`)
	acquire := func() *quotav1.AcquireResponse {
		t.Helper()
		res, err := r.Acquire(t.Context(), &quotav1.AcquireRequest{Subject: subject("user", "ann")})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	first := acquire()
	r.change(`rules: [{id: new, concurrency: {max: 9}}, {id: a, key: [user], concurrency: {max: 1}}]`)
	if res := acquire(); res.GetCheck().GetAllowed() {
		t.Error("a second permit was given of a limit that is one now")
	}
	if _, err := r.Release(t.Context(), &quotav1.ReleaseRequest{PermitId: first.GetPermitId()}); err != nil {
		t.Fatal(err)
	}
	if res := acquire(); !res.GetCheck().GetAllowed() {
		t.Error("no permit though the one before was given back")
	}
}

func TestARuleThatComesBackHasItsCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRuled(t, `rules: [{id: a, key: [user], limit: 5/minute}]`)
		r.spend(3, "user", "ann")
		r.change(`rules: [{id: b, key: [user], limit: 100/minute}]`)
		if got, _ := r.spend(10, "user", "ann"); got != 10 {
			t.Errorf("without the rule: allowed %d of 10", got)
		}
		time.Sleep(30 * time.Second)
		r.change(`rules: [{id: a, key: [user], limit: 5/minute}]`)
		if got, _ := r.spend(10, "user", "ann"); got != 2 {
			t.Errorf("with the rule again: allowed %d of 10, want 2", got)
		}
		// Numbers of what is gone are used again, and what was counted under them is
		// not: this would run out of memory else.
		for i := range 1000 {
			time.Sleep(time.Minute)
			r.change(fmt.Sprintf(`rules: [{id: r%d, key: [user], limit: 5/minute}]`, i))
			if got, _ := r.spend(10, "user", "ann"); got != 5 {
				t.Fatalf("rule %d: allowed %d of 10, want 5", i, got)
			}
		}
		if n := r.Limits(); n > 10 {
			t.Errorf("after 1000 rules one after the other: %d limits", n)
		}
	})
}

// TestLimitsThatAreGoneAreCountedForAWhile changes rules that have most of the limits
// that there can be.
func TestLimitsThatAreGoneAreCountedForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRuled(t, manyLimits("a", 5000))
		r.change(manyLimits("b", 5000))
		if p := r.Problems(); len(p) != 1 || !strings.HasPrefix(p[0], "rules: have 80016 limits with those of the rules before") {
			t.Errorf("problems: %q", p)
		}
		if got, last := r.spend(2, "tenant", "t7"); got != 1 || last.GetRule() != "a" {
			t.Errorf("with too many: allowed %d of 2, want 1 by the rules before: %v", got, last)
		}
		r.change(manyLimits("b", 2000))
		time.Sleep(time.Minute + 8*time.Second)
		r.change(manyLimits("b", 5000))
		if got, last := r.spend(2, "tenant", "t4000"); got != 1 || last.GetRule() != "b" || len(r.Problems()) > 0 {
			t.Errorf("in steps: allowed %d of 2, want 1 by the new rules: %v, problems %q", got, last, r.Problems())
		}
	})
}

func TestRulesThatAreNotGoodChangeNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRuled(t, `rules: [{id: a, key: [user], limit: 5/minute}]`)
		ctx, stop := context.WithCancel(t.Context())
		var g sync.WaitGroup
		g.Go(func() { _ = r.Run(ctx) })
		r.spend(3, "user", "ann")
		r.write("rules:\n  - id: a\n    limit: 9/minute\n  - id: a\n    match: {usr: x}\n    limit: fast\n")
		time.Sleep(3 * time.Second)
		want := []string{
			r.file + `:4:9: rules[1].id: "a" is also the id of rules[0]`,
			r.file + `:5:18: rules[1].match.usr: is no attribute`,
			r.file + `:6:12: rules[1].limit: "fast" is no rate`,
		}
		got := r.Problems()
		if len(got) != len(want) {
			t.Fatalf("problems: got %q", got)
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				t.Errorf("problem %d: got %q, want it to begin with %q", i, got[i], want[i])
			}
		}
		if n := r.counts(t)["sallyport.quota.rule_problems"]; n != 3 {
			t.Errorf("gauge of problems: got %d, want 3", n)
		}
		if !strings.Contains(r.log.String(), "rules.yaml:4:9") {
			t.Errorf("the log does not say where: %s", r.log.String())
		}
		if got, _ := r.spend(10, "user", "ann"); got != 2 {
			t.Errorf("with a bad file: allowed %d of 10, want 2", got)
		}
		if err := os.Remove(r.file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if p := r.Problems(); len(p) != 1 || !strings.Contains(p[0], "no such file") {
			t.Errorf("without the file: problems %q", p)
		}
		r.write(`rules: [{id: a, key: [user], limit: 9/minute}]`)
		time.Sleep(3 * time.Second)
		if p := r.Problems(); len(p) > 0 || r.counts(t)["sallyport.quota.rule_problems"] != 0 {
			t.Errorf("with a good file again: problems %q", p)
		}
		if got, _ := r.spend(10, "user", "ann"); got != 4 {
			t.Errorf("with a good file again: allowed %d of 10, want 4", got)
		}
		if n := r.counts(t)["sallyport.quota.rule_changes"]; n != 1 {
			t.Errorf("changes: got %d, want 1", n)
		}
		stop()
		g.Wait()
	})
}

// A process that starts with a mistake does not.
func TestAServiceDoesNotStartWithRulesThatAreNotGood(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte("rules:\n- id: a\n  limit: 1/s\n  widow: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := quota.DefaultConfig()
	cfg.RulesFiles = quota.Strings{filepath.Dir(file)}
	_, err := quota.New(cfg, nil, nil)
	if want := file + ":4:3: field widow is not known here"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestRulesStandInOnePlace(t *testing.T) {
	t.Parallel()
	cfg, err := read("rules_files: x.yaml\nrules: [{id: a, limit: 1/s}]")
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "rules: stand in rules_files already") {
		t.Errorf("got %v", err)
	}
}

func TestRulesOfSeveralFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.yaml":  "attributes: [region]\nrules: [{id: a, key: [user], limit: 5/minute}]",
		"b.yaml":  "rules: [{id: b, match: {region: eu}, limit: 1/minute}]",
		"c.yml":   "not read",
		"d.yaml~": "not read",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := quota.DefaultConfig()
	cfg.RulesFiles = quota.Strings{dir}
	svc, err := quota.New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := svc.Check(t.Context(), check("user", "ann", "region", "eu"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range res.GetLimits() {
		got = append(got, l.GetName())
	}
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

// Whatever is changed while checks are under way, nobody is refused who has not
// spent the limit, and nobody spends more.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	const users, limit = 4, 40_000
	variants := []string{
		`rules: [{id: a, key: [user], limit: 40000/hour}]`,
		`rules: [{id: b, key: [user], limit: 10000000/hour}, {id: a, key: [user], limit: 40000/hour}]`,
		`rules: [{id: c, match: {user: "*"}, key: [user], limit: "9000000/hour;8000000/minute"}, {id: a, key: [user], limit: "9000000/day;40000/hour"}]`,
		`rules: [{id: a, match: {user: "u*"}, key: [user], limit: 40000/hour}, {id: b, limit: 10000000/hour, algorithm: gcra}]`,
	}
	r := newRuled(t, variants[0])
	var admitted [users]atomic.Int64
	var failed atomic.Pointer[string]
	var done atomic.Bool
	var g sync.WaitGroup
	for u := range users {
		g.Go(func() {
			batch := &quotav1.CheckBatchRequest{}
			for range 10 {
				batch.Checks = append(batch.Checks, check("user", fmt.Sprintf("u%d", u)))
			}
			for !done.Load() {
				before := admitted[u].Load()
				res, err := r.CheckBatch(t.Context(), batch)
				if err != nil {
					text := err.Error()
					failed.Store(&text)
					return
				}
				for i, c := range res.GetResults() {
					if c.GetAllowed() {
						admitted[u].Add(1)
					} else if before+int64(i) < limit {
						text := fmt.Sprintf("refused by %q after %d", c.GetRule(), before+int64(i))
						failed.Store(&text)
					}
				}
				if admitted[u].Load() >= limit {
					return
				}
			}
		})
	}
	spent := make(chan struct{})
	go func() { g.Wait(); close(spent) }()
	for i := 0; ; i++ {
		select {
		case <-spent:
		default:
			r.change(variants[i%len(variants)])
			continue
		}
		break
	}
	done.Store(true)
	if text := failed.Load(); text != nil {
		t.Fatal(*text)
	}
	r.change(variants[0])
	for u := range users {
		more, _ := r.spend(20, "user", fmt.Sprintf("u%d", u))
		if got := admitted[u].Load() + int64(more); got != limit {
			t.Errorf("user %d: admitted %d in all, want %d", u, got, limit)
		}
	}
}

func FuzzRules(f *testing.F) {
	for _, s := range []string{
		"", "rules: []", "rules: [{id: a, limit: 1/s}]", "a: &a [*a]", "rules: {a: 1}", "rules:\n- id: a\n  match: {x: [1, {}]}\n",
		"attributes: [a, A]\nrules: [{id: a, match: {a: b}, key: [a/3]}]", "---\nrules: []\n---\nrules: []", "rules: [{id: a, limit: 1/s, overrides: [{when: {}}]}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<12 {
			return
		}
		if err := quota.ParseRules(text); err != nil && !strings.Contains(string(text), "%!") && strings.Contains(err.Error(), "%!") {
			t.Errorf("a message that is not well made: %v", err)
		}
	})
}

// text is what stands in the file.
func (r *ruled) text() []byte {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}
