package quota_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// explain asks a service as an operator.
func explain(t *testing.T, svc *quota.Service) *quotav1.ExplainRulesResponse {
	t.Helper()
	c := quotav1.NewQuotaAdminServiceClient(rpctest.Serve(t, svc.Register))
	resp, err := c.ExplainRules(t.Context(), &quotav1.ExplainRulesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestExplainRules(t *testing.T) {
	t.Parallel()
	r := newRuled(t, `rules:
  - {id: a, match: {action: tools/call}, key: [user], limit: 5/minute;1000/hour, penalty: extend, cost: one}
  - {id: b, limit: 10/minute, algorithm: gcra, shadow: true, on_unavailable: share}
  - {id: c, key: [ip], limit: 10/minute, algorithm: fixed, overrides: [{when: {plan: pro}, limit: 20/minute}, {when: {tenant: acme}, unlimited: true}]}
  - {id: d, key: [user], limit: 10/minute, algorithm: fixed, windows: clock, on_unavailable: allow}
  - {id: e, key: [user], concurrency: {max: 3, ttl: 30s}}
`)
	for _, user := range []string{"ann", "bob"} {
		r.spend(1, "user", user, "ip", "192.0.2.1", "action", "tools/call")
	}
	// Numbers and names are those of the rules in use, whatever was before.
	r.change(strings.ReplaceAll(string(r.text()), "1000/hour", "900/hour"))
	resp := explain(t, r.Service)
	if resp.GetNodes() != 1 || len(resp.GetVersion()) != 64 || len(resp.GetProblems()) != 0 || time.Since(resp.GetLoadTime().AsTime()) > time.Hour {
		t.Errorf("got %d nodes, version %q, problems %q, loaded %v", resp.GetNodes(), resp.GetVersion(), resp.GetProblems(), resp.GetLoadTime().AsTime())
	}
	type row struct {
		Name, Algorithm, Unavailable string
		Limit, Most, Keys            uint64
		Window                       time.Duration
		Bytes                        uint32
		Shadow                       bool
	}
	want := []row{
		{"a/1m", "sliding", "deny", 5, 5, 2, time.Minute, 91, false},
		{"a/1h", "sliding", "deny", 900, 900, 2, time.Hour, 111, false},
		{"b", "gcra", "share", 10, 20, 1, time.Minute, 67, true},
		{"c", "fixed", "deny", 10, 20, 1, time.Minute, 67, false},
		{"c", "fixed", "deny", 20, 40, 0, time.Minute, 67, false},
		{"d", "fixed", "allow", 10, 20, 2, time.Minute, 67, false},
		{"e", "concurrency", "deny", 3, 3, 0, 0, 240, false},
	}
	var got []row
	notes := ""
	for _, e := range resp.GetRules() {
		got = append(got, row{
			e.GetName(), e.GetAlgorithm(), e.GetOnUnavailable(), e.GetLimit(), e.GetMostAdmitted(), e.GetKeys(),
			e.GetWindow().AsDuration(), e.GetBytesPerKey(), e.GetShadow(),
		})
		notes += e.GetName() + ": " + strings.Join(e.GetNotes(), " ") + "\n"
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	for _, sentence := range []string{
		"a/1m: What it refuses counts too", "For checks where action is tools/call. Counted by user;", "Each check counts as one",
		"a/1h: Counted in tenths of the window", "b: Admits 10 at once, then one each 6s.", "All together have one count. Warning: admits up to 20 in one window of 1m, not 10",
		"c: Instead of the rule's limit where plan is pro.", "Not where tenant is acme.", "d: Windows end with those of the clock", "everything passes",
		"e: At a time; a permit that is not given back ends after 30s.",
	} {
		if !strings.Contains(notes, sentence) {
			t.Errorf("notes do not say %q:\n%s", sentence, notes)
		}
	}

	version := resp.GetVersion()
	r.change("rules: [{id: a, limit: fast}]")
	resp = explain(t, r.Service)
	if len(resp.GetProblems()) != 1 || !strings.Contains(resp.GetProblems()[0], `rules.yaml:1:24: rules[0].limit: "fast" is no rate`) {
		t.Errorf("problems: %q", resp.GetProblems())
	}
	if resp.GetVersion() != version || len(resp.GetRules()) != len(want) {
		t.Errorf("bad rules changed what is explained")
	}
}

// Nobody but operators may ask: the edge has no business here.
func TestOnlyOperatorsExplainRules(t *testing.T) {
	t.Parallel()
	srv := rpc.Server{Log: slog.New(slog.DiscardHandler), Allow: quota.Role.Allow}
	for caller, want := range map[string]codes.Code{"edge": codes.PermissionDenied, "envoy": codes.PermissionDenied, "sallyport": codes.OK} {
		c := quotav1.NewQuotaAdminServiceClient(srv.Local(caller, nil, service(t, "").Register))
		if _, err := c.ExplainRules(t.Context(), &quotav1.ExplainRulesRequest{}); status.Code(err) != want {
			t.Errorf("as %s: %v", caller, err)
		}
	}
}

func TestExplainDurableQuotas(t *testing.T) {
	t.Parallel()
	cfg := quota.DefaultConfig()
	cfg.Rules = []quota.Rule{
		{ID: "tokens", Key: []string{"tenant"}, Quota: quota.Quota{Amount: 1000, Per: "month", Unit: "llm_tokens", TZ: "Europe/Berlin"}},
		{ID: "per-key", Key: []string{"key"}, Limit: quota.Strings{"600/minute"}},
	}
	s, err := quota.New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := quotav1.NewQuotaAdminServiceClient(rpctest.Serve(t, s.Register))
	resp, err := client.ExplainRules(t.Context(), &quotav1.ExplainRulesRequest{})
	if err != nil || len(resp.GetRules()) != 2 {
		t.Fatalf("ExplainRules = %v, %v", resp, err)
	}
	got := resp.GetRules()[0]
	if got.GetName() != "tokens" || got.GetMode() != "durable" || got.GetMostAdmitted() != 1000 || got.GetKind() != quotav1.RefusalKind_REFUSAL_KIND_QUOTA ||
		got.GetNotes()[0] != "Of llm_tokens in a month (Europe/Berlin), counted in the ledger; without it nothing passes." {
		t.Errorf("the quota is explained as %v", got)
	}
}
