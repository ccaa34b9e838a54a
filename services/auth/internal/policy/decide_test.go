package policy_test

import (
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

var (
	call        = policy.NewAction("tools/call")
	reader      = &toolv1.Tool{Risk: toolv1.Risk_RISK_READ, Tags: []string{"demo"}}
	destructive = &toolv1.Tool{Risk: toolv1.Risk_RISK_DESTRUCTIVE}
)

func caller(roles ...string) *policy.Subject {
	return policy.NewSubject(&authv1.Principal{
		Id: "key:7Xk2abcdef", Owner: "anna", Tenant: "acme", Name: "ci", CredentialId: "7Xk2abcdef", Roles: roles,
	}, []string{"write", "read"})
}

func tool(name string, options *toolv1.Tool) *policy.Object {
	return policy.NewTool(&executorv1.Catalogue_Entry{Name: name, Service: "things", Options: options})
}

func situation(t testing.TB, arguments string) policy.Situation {
	t.Helper()
	s := policy.Situation{
		Origin: &authv1.Origin{
			Address: "192.0.2.7", Client: "test/1", ProtocolVersion: "2026-07-28", Hops: 2,
			ContextSource: authv1.ContextSource_CONTEXT_SOURCE_TRACE,
			Steps:         proto.Uint64(7),
		},
		Time: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
		Seen: &policy.Seen{Suspects: []string{}},
	}
	if arguments != "" {
		var err error
		if s.Arguments, err = policy.ParseArguments([]byte(arguments)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestPoliciesSeeTheRequest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		condition string
	}{
		{"the principal", `principal == Principal::"key:7Xk2abcdef"`},
		{"his attributes", `principal.owner == "anna" && principal.tenant == "acme" && principal.name == "ci" && principal.credential == "7Xk2abcdef"`},
		{"the scopes of his token", `principal.scopes.contains("read") && principal.scopes == ["read", "write"] && !principal.scopes.contains("admin")`},
		{"all his roles", `principal in Role::"a" && principal in Role::"b" && !(principal in Role::"c")`},
		{"the service of a tool", `resource in Service::"things" && resource.service == "things"`},
		{"what a tool says of itself", `resource.name == "look" && resource.risk == "read" && resource.tags.contains("demo") && !resource.outbound`},
		{"the worst of what it does not say", `resource.trust == "untrusted" && resource.sensitivity == "internal" && resource.scopes.isEmpty()`},
		{"the address", `context has address && context.address.isInRange(ip("192.0.2.0/24"))`},
		{"the client", `context.client == "test/1" && context.protocol == "2026-07-28" && context.hops == 2 && context.context_source == "trace"`},
		{"the time", `context.time == datetime("2026-11-24T12:00:00Z")`},
		{"arguments", `context.arguments.n == 7 && context.arguments.deep.list.contains("x") && !(context.arguments has nothing)`},
		{"a number however it is written", `context.arguments.thousand == 1000 && context.arguments.half == decimal("0.5")`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set := load(t, `@id("a") permit (principal, action == Action::"tools/call", resource is Tool) when { `+tt.condition+` };`)
			m := set.Match(caller("a", "b"), call, tool("look", reader))
			got := m.Decide(situation(t, `{"n":7,"deep":{"list":["x",null]},"nothing":null,"thousand":10.00e2,"half":5e-1}`))
			if got.Verdict != policy.Allow || got.Rule == nil || got.Rule.ID != "a" {
				t.Errorf("got %+v, want allow", got)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	const (
		permit   = `@id("permit") permit (principal, action, resource);`
		forbid   = `@id("forbid") @reason("no") forbid (principal, action, resource);`
		permitIf = `@id("permit-if") permit (principal, action, resource) when { context.arguments.n == 1 };`
		forbidIf = `@id("forbid-if") @reason("no") forbid (principal, action, resource) when { context.arguments.n == 1 };`
		night    = `@id("night") @reason("no") forbid (principal, action, resource) when { context.time < datetime("2000-01-01") };`
	)
	tests := []struct {
		name      string
		policies  string
		arguments string

		want     policy.Verdict
		rule     string
		broken   bool
		callable bool
	}{
		{name: "nothing that matches denies", policies: `@id("other") permit (principal in Role::"other", action, resource);`, want: policy.Deny},
		{name: "a permit allows", policies: permit, want: policy.Allow, rule: "permit", callable: true},
		{name: "a forbid wins", policies: permit + forbid, want: policy.Deny, rule: "forbid"},
		{name: "the first permit as written is named", policies: `@id("z") permit (principal, action, resource);` + permit, want: policy.Allow, rule: "z", callable: true},
		{name: "a permit that reads arguments needs them", policies: permitIf, want: policy.Incomplete, callable: true},
		{name: "a permit that reads arguments allows", policies: permitIf, arguments: `{"n":1}`, want: policy.Allow, rule: "permit-if", callable: true},
		{name: "a permit that reads arguments does not apply", policies: permitIf, arguments: `{"n":2}`, want: policy.Deny, callable: true},
		{name: "a permit that cannot be evaluated does not permit", policies: permitIf, arguments: `{}`, want: policy.Deny, callable: true},
		{name: "arguments are not needed where another permit is enough", policies: permit + permitIf, want: policy.Allow, rule: "permit", callable: true},
		{name: "arguments are not needed where a forbid is enough", policies: permitIf + forbidIf + forbid, want: policy.Deny, rule: "forbid"},
		{name: "arguments are not needed where nothing could permit", policies: forbidIf, want: policy.Deny},
		{name: "a forbid that reads arguments needs them", policies: permit + forbidIf, want: policy.Incomplete, callable: true},
		{name: "a forbid that reads arguments forbids", policies: permit + forbidIf, arguments: `{"n":1.0}`, want: policy.Deny, rule: "forbid-if", callable: true},
		{name: "a forbid that reads arguments does not apply", policies: permit + forbidIf, arguments: `{"n":2}`, want: policy.Allow, rule: "permit", callable: true},
		{name: "a forbid that cannot be evaluated forbids", policies: permit + forbidIf, arguments: `{"m":1}`, want: policy.Deny, rule: "forbid-if", broken: true, callable: true},
		{name: "a forbid that holds is named before a broken one", policies: permit + forbidIf + forbid, arguments: `{}`, want: policy.Deny, rule: "forbid"},
		{name: "a policy that reads the context is evaluated each time", policies: permit + night, want: policy.Allow, rule: "permit", callable: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := load(t, tt.policies).Match(caller("a"), call, tool("look", reader))
			got := m.Decide(situation(t, tt.arguments))
			rule := ""
			if got.Rule != nil {
				rule = got.Rule.ID
			}
			if got.Verdict != tt.want || rule != tt.rule || got.Broken != tt.broken {
				t.Errorf("got %+v of %q, want %v of %q, broken %v", got, rule, tt.want, tt.rule, tt.broken)
			}
			if got := m.Callable(situation(t, "")); got != tt.callable {
				t.Errorf("got callable %v, want %v", got, tt.callable)
			}
		})
	}
}

func TestUseOfTheWholeContextReadsArguments(t *testing.T) {
	t.Parallel()
	for _, condition := range []string{
		`context has arguments`,
		`(if principal in Role::"a" then context else context).arguments.n == 1`,
		`{"c": context}["c"].arguments.n == 1`,
	} {
		m := load(t, `@id("a") permit (principal, action, resource) when { `+condition+` };`).Match(caller("a"), call, tool("look", reader))
		if got := m.Decide(situation(t, "")); got.Verdict != policy.Incomplete {
			t.Errorf("%s: got %v, want arguments to be needed", condition, got.Verdict)
		}
	}
}

// TestDefaultPolicies is the table that a person can read: who may do what
// where the operator has written no policies of his own.
func TestDefaultPolicies(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../policies/default.cedar")
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.Load([]policy.File{{Name: "default.cedar", Text: text}})
	if err != nil {
		t.Fatal(err)
	}
	confidential := &toolv1.Tool{Risk: toolv1.Risk_RISK_READ, Sensitivity: toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL}
	internal := &toolv1.Tool{Risk: toolv1.Risk_RISK_READ, Sensitivity: toolv1.Sensitivity_SENSITIVITY_INTERNAL}
	roles := []string{"admin", "analyst", "intern", "stranger"}
	tests := []struct {
		method string
		object *policy.Object
		name   string
		//               admin    analyst  intern   stranger
		want [4]string // the policy that allows; "-" default deny; "!x" forbidden by x
	}{
		{"tools/call", tool("echo", reader), "echo", [4]string{"admins-all", "analysts-read", "interns-read-internal", "-"}},
		{"tools/call", tool("add_numbers", reader), "add_numbers", [4]string{"admins-all", "analysts-read", "interns-read-internal", "-"}},
		{"tools/call", tool("summarize_logs", internal), "summarize_logs", [4]string{"admins-all", "analysts-read", "interns-read-internal", "-"}},
		{"tools/call", tool("run_sql_query", confidential), "run_sql_query", [4]string{"admins-all", "analysts-read", "-", "-"}},
		{"tools/call", tool("get_customer", confidential), "get_customer", [4]string{"admins-all", "analysts-read", "-", "-"}},
		{"tools/call", tool("rename", &toolv1.Tool{Risk: toolv1.Risk_RISK_WRITE}), "a tool that writes", [4]string{"admins-all", "-", "-", "-"}},
		{"tools/call", tool("delete_customer_account", destructive), "delete_customer_account", [4]string{"admins-all", "!destructive-admins-only", "!destructive-admins-only", "!destructive-admins-only"}},
		{"tools/call", tool("silent", nil), "a tool that does not say", [4]string{"admins-all", "!destructive-admins-only", "!destructive-admins-only", "!destructive-admins-only"}},
		{"tools/list", policy.NewGateway(), "", [4]string{"lists-for-all", "lists-for-all", "lists-for-all", "lists-for-all"}},
		{"resources/list", policy.NewGateway(), "", [4]string{"lists-for-all", "lists-for-all", "lists-for-all", "lists-for-all"}},
		{"prompts/list", policy.NewGateway(), "", [4]string{"lists-for-all", "lists-for-all", "lists-for-all", "lists-for-all"}},
		{"subscriptions/listen", policy.NewGateway(), "", [4]string{"notices-for-all", "notices-for-all", "notices-for-all", "notices-for-all"}},
		{"subscriptions/listen", policy.NewResource("file:///x"), "x", [4]string{"admins-all", "analysts-resources", "-", "-"}},
		{"resources/read", policy.NewResource("file:///x"), "x", [4]string{"admins-all", "analysts-resources", "-", "-"}},
		{"resources/read", policy.NewResource("file:///a/../x"), "what climbs", [4]string{"!resource-uri", "!resource-uri", "!resource-uri", "!resource-uri"}},
		{"completion/complete", policy.NewResource("urn:x:{id}"), "a template", [4]string{"admins-all", "analysts-resources", "-", "-"}},
		{"prompts/get", policy.NewPrompt("review"), "review", [4]string{"admins-all", "analysts-resources", "-", "-"}},
		{"completion/complete", policy.NewPrompt("review"), "review", [4]string{"admins-all", "analysts-resources", "-", "-"}},
	}
	for _, tt := range tests {
		for i, role := range roles {
			t.Run(role+" "+tt.method+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				out := set.Match(caller(role), policy.NewAction(tt.method), tt.object).Decide(situation(t, ""))
				got := "-"
				switch {
				case out.Verdict == policy.Allow:
					got = out.Rule.ID
				case out.Rule != nil:
					got = "!" + out.Rule.ID
				}
				if got != tt.want[i] {
					t.Errorf("got %s, want %s", got, tt.want[i])
				}
			})
		}
	}
	for _, rule := range set.Rules() {
		if rule.Reason == "" {
			t.Errorf("%s: policy %s has no reason", rule.Source, rule.ID)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	set := load(b, `@id("a") permit (principal in Role::"a", action, resource is Tool) when { resource.risk == "read" };
		@id("b") @reason("x") forbid (principal, action, resource) when { context has address && context.address.isInRange(ip("10.0.0.0/8")) };`)
	s := situation(b, "")
	b.ReportAllocs()
	m := set.Match(caller("a"), call, tool("look", reader))
	for b.Loop() {
		if m.Decide(s).Verdict != policy.Allow {
			b.Fatal("denied")
		}
	}
}
