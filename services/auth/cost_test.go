package auth_test

import (
	"bytes"
	"fmt"
	"math/bits"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/alloctest"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
)

// The size of what the goals are about.
const (
	manyPolicies = 200
	manyTools    = 1000
)

// manyRules are policies as a company could have them: some for all, some for the
// role that is measured, most for others; of each kind, some look at the tool,
// at the context or at arguments.
func manyRules() string {
	var b strings.Builder
	for i := range manyPolicies {
		role := fmt.Sprintf("team-%d", i/5)
		if i%10 == 0 {
			role = "measured"
		}
		fmt.Fprintf(&b, "@id(\"p%d\") @reason(\"Because of p%d.\")\n", i, i)
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, "permit (principal in Role::%q, action == Action::\"tools/call\", resource in Service::\"service-%d\") when { resource.risk == \"read\" };\n", role, i%7)
		case 1:
			fmt.Fprintf(&b, "permit (principal in Role::%q, action == Action::\"tools/call\", resource is Tool) when { context.hops < 3 && resource.tags.contains(\"t%d\") };\n", role, i)
		case 2:
			fmt.Fprintf(&b, "permit (principal in Role::%q, action, resource == Tool::\"tool_%d\") when { context.arguments.n < 10 };\n", role, i)
		case 3:
			fmt.Fprintf(&b, "forbid (principal, action == Action::\"tools/call\", resource == Tool::\"tool_%d\") when { context.hops > 5 };\n", i)
		case 4:
			fmt.Fprintf(&b, "permit (principal in Role::%q, action == Action::\"resources/read\", resource is Resource) when { resource.scheme == \"s%d\" };\n", role, i)
		}
	}
	b.WriteString(`@id("office") @reason("Not from here.") forbid (principal, action == Action::"tools/call", resource is Tool)
		unless { context has address && context.address.isInRange(ip("192.0.2.0/24")) };
		@id("hops") @reason("Too far.") forbid (principal, action == Action::"tools/call", resource is Tool) when { context.hops > 10 };`)
	return b.String()
}

// crowd starts a service with many policies, tools and keys, and returns the text
// of one key.
func crowd(t testing.TB, keys int) (h *house, text string) {
	t.Helper()
	st := newStore(t)
	entries := make([]*executorv1.Catalogue_Entry, manyTools)
	for i := range entries {
		risk := toolv1.Risk_RISK_READ
		if i%3 == 0 {
			risk = toolv1.Risk_RISK_WRITE
		}
		entries[i] = &executorv1.Catalogue_Entry{
			Name: fmt.Sprintf("tool_%d", i), Service: fmt.Sprintf("service-%d", i%7), Digest: bytes.Repeat([]byte{1}, 32),
			Options: &toolv1.Tool{Risk: risk, Tags: []string{"a", "b"}},
		}
	}
	value, err := proto.Marshal(&executorv1.Catalogue{Version: "1", Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), bus.Catalogue, "current", value); err != nil {
		t.Fatal(err)
	}
	material, _, err := secret.LoadOrCreate(filepath.Join(st.dir, "secrets", "pepper.key"))
	if err != nil {
		t.Fatal(err)
	}
	pepper := apikey.NewPepper(material)
	now := time.Now()
	for i := range keys {
		token := apikey.Mint("dev")
		sum := pepper.Sum(token)
		value, err := keyring.Encode(&keyring.Record{
			ID: token.ID, Env: token.Env, Name: fmt.Sprintf("key %d", i), Tenant: "default", Roles: []string{"measured"},
			Created: now, Expires: now.Add(24 * time.Hour), Secrets: []keyring.Secret{{Pepper: pepper.ID(), Sum: sum[:]}},
		}, pepper)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Put(t.Context(), bus.Keys, token.ID, value); err != nil {
			t.Fatal(err)
		}
		text = token.Reveal()
	}
	own := writePolicies(t, manyRules())
	h = open(t, st, func(c *auth.Config) { c.Policies = []string{own} })
	h.ledger.discard = true
	return h, text
}

// decides makes a call by the handler, with all that is around it but gRPC.
func (h *house) decides(t testing.TB, req *authv1.AuthorizeRequest, want auditv1.Verdict) {
	resp, err := h.service.Authorize(t.Context(), req)
	if err != nil || resp.GetDecision().GetVerdict() != want {
		t.Fatal(resp, err)
	}
}

const (
	allowedTool = "tool_700"
	deniedTool  = "tool_702"
)

// TestCostDoesNotGrowWithKeys counts allocations, which do not depend on the
// machine.
func TestCostDoesNotGrowWithKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that nothing else allocates meanwhile
		var first float64
		for _, keys := range []int{1, 100, 10_000} {
			h, text := crowd(t, keys)
			req := call(text, allowedTool, "{}")
			h.decides(t, req, auditv1.Verdict_VERDICT_ALLOW)
			got := alloctest.Least(func() { h.decides(t, req, auditv1.Verdict_VERDICT_ALLOW) })
			t.Logf("%d keys: %v allocations", keys, got)
			if first == 0 {
				first = got
			}
			if got > first+2 { // others' are counted too
				t.Errorf("with %d keys: got %v allocations, want %v as with one", keys, got, first)
			}
		}
	})
}

// cpu is the CPU time that the process has used. On a busy machine it says more
// than the time on the wall.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs a benchmark and reports CPU time too, all goroutines' and the
// garbage collector's.
func measure(b *testing.B, prepare, ask func()) {
	b.Helper()
	b.ReportAllocs()
	var spent time.Duration
	since := cpu(b)
	for b.Loop() {
		if prepare != nil {
			b.StopTimer()
			spent += cpu(b) - since
			prepare()
			since = cpu(b)
			b.StartTimer()
		}
		ask()
	}
	spent += cpu(b) - since
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkAuthorizeAmongMany measures a decision, without gRPC and with all that
// is around a handler, and with it.
func BenchmarkAuthorizeAmongMany(b *testing.B) {
	for _, keys := range []int{1, 1000, 100_000} {
		h, text := crowd(b, keys)
		for name, tt := range map[string]struct {
			tool string
			want auditv1.Verdict
		}{"allow": {allowedTool, auditv1.Verdict_VERDICT_ALLOW}, "deny": {deniedTool, auditv1.Verdict_VERDICT_DENY}} {
			req := call(text, tt.tool, "{}")
			b.Run(fmt.Sprintf("keys=%d/%s/handler", keys, name), func(b *testing.B) {
				measure(b, nil, func() { h.decides(b, req, tt.want) })
			})
			if keys == 1 {
				b.Run(fmt.Sprintf("keys=%d/%s/rpc", keys, name), func(b *testing.B) {
					measure(b, nil, func() {
						if _, err := h.auth.Authorize(b.Context(), req); err != nil {
							b.Fatal(err)
						}
					})
				})
			}
		}
	}
}

// listOfMany asks which of many tools a key may call, by the hash of their names,
// which auth knows.
func (h *house) listOfMany(t testing.TB, text string) *authv1.FilterToolsRequest {
	t.Helper()
	req := &authv1.FilterToolsRequest{Credential: bearer(text), Origin: from("192.0.2.7")}
	for i := range manyTools {
		req.Tools = append(req.Tools, fmt.Sprintf("tool_%d", i))
	}
	req.ToolsSha256 = hashOf(req.GetTools()...)
	if resp, err := h.service.FilterTools(t.Context(), req); err != nil || resp.GetToolsNeeded() {
		t.Fatal(resp, err)
	}
	req.Tools = nil
	return req
}

// lists carries a request for a list out by the handler.
func (h *house) lists(t testing.TB, req *authv1.FilterToolsRequest) {
	resp, err := h.service.FilterTools(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, b := range resp.GetAllowedBits() {
		n += bits.OnesCount8(b)
	}
	if n == 0 || n == manyTools {
		t.Fatal(n)
	}
}

// TestCostOfAListIsOfPolicies counts allocations: a list of many tools has no more
// than a few for each policy that is left open by what is known of the tools.
func TestCostOfAListIsOfPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, text := crowd(t, 1)
		req := h.listOfMany(t, text)
		const most = manyTools / 2
		got := alloctest.Least(func() { h.lists(t, req) })
		t.Logf("%v allocations", got)
		if got > most {
			t.Errorf("a list of %d tools: got %v allocations, want %d at most", manyTools, got, most)
		}
	})
}

// BenchmarkFilterManyTools measures a list: by the hash of the names, by the names, and
// the first time after tools or policies have changed.
func BenchmarkFilterManyTools(b *testing.B) {
	h, text := crowd(b, 1)
	req := h.listOfMany(b, text)
	rpc := func(req *authv1.FilterToolsRequest) func() {
		return func() {
			if _, err := h.auth.FilterTools(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	}
	named := proto.CloneOf(req)
	named.ToolsSha256 = nil
	for i := range manyTools {
		named.Tools = append(named.Tools, fmt.Sprintf("tool_%d", i))
	}
	value, err := h.store.Get(b.Context(), bus.Catalogue, "current")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("hash/handler", func(b *testing.B) { measure(b, nil, func() { h.lists(b, req) }) })
	b.Run("hash/rpc", func(b *testing.B) { measure(b, nil, rpc(req)) })
	b.Run("names/rpc", func(b *testing.B) { measure(b, nil, rpc(named)) })
	b.Run("first/handler", func(b *testing.B) {
		measure(b, func() { auth.TakeCatalogue(h.service, value) }, func() { h.lists(b, req) })
	})
}
