package policy_test

import (
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

func TestApprovalsThatCannotBeLoaded(t *testing.T) {
	t.Parallel()
	const scope = `(principal, action == Action::"tools/call", resource);`
	tests := []struct {
		name string
		text string
		want string
	}{
		{"on a permit", "\n@id(\"a\") @approval(\"user\") permit " + scope, `x.cedar:2: @approval on a permit; write a forbid`},
		{"of somebody else", "\n\n@id(\"a\") @reason(\"no\") @approval(\"boss\") forbid " + scope, `x.cedar:3: @approval("boss") is neither "user" (the caller's own user or an operator) nor "operator"`},
		{"in capitals", `@id("a") @reason("no") @approval("Operator") forbid ` + scope, `x.cedar:1: @approval("Operator")`},
		{"of nobody", `@id("a") @reason("no") @approval forbid ` + scope, `x.cedar:1: @approval("")`},
		{"where more than calls is forbidden", `@id("a") @reason("no") @approval("user") forbid (principal, action, resource);`, `x.cedar:1: @approval where more than calls is forbidden`},
		{"of reading", `@id("a") @reason("no") @approval("user") forbid (principal, action == Action::"resources/read", resource);`, `write action == Action::"tools/call"`},
		{"of calls and reading", `@id("a") @reason("no") @approval("user") forbid (principal, action in [Action::"tools/call", Action::"prompts/get"], resource);`, `only those can be approved`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.Load([]policy.File{{Name: "x.cedar", Text: []byte(tt.text)}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	const (
		call     = ` (principal, action == Action::"tools/call", resource) `
		permit   = `@id("permit") permit` + call + ";"
		permitIf = `@id("permit-if") permit` + call + `when { context.arguments.n == 1 };`
		forbid   = `@id("forbid") @reason("no") forbid` + call + `;`
		forbidIf = `@id("forbid-if") @reason("no") forbid` + call + `when { context.arguments.n == 1 };`
		broken   = `@id("broken") @reason("no") forbid` + call + `when { context.arguments.missing == 1 };`
		night    = `@id("night") @reason("no") @approval("operator") forbid` + call + `when { context.time < datetime("2000-01-01") };`
		user     = `@id("user") @reason("ask") @approval("user") forbid` + call + ";"
		operator = `@id("operator") @reason("ask") @approval("operator") forbid` + call + ";"
		large    = `@id("large") @reason("ask") @approval("operator") forbid` + call + `when { context.arguments.n > 100 };`
		listed   = `@id("listed") @reason("ask") @approval("user") forbid (principal, action in [Action::"tools/call"], resource);`
		others   = `@id("others") @reason("ask") @approval("user") forbid (principal in Role::"other", action == Action::"tools/call", resource);`
	)
	tests := []struct {
		name      string
		policies  string
		arguments string

		want     policy.Verdict
		rule     string
		approval policy.Approval
		broken   bool
		callable bool
	}{
		{name: "a user is asked", policies: permit + user, want: policy.NeedApproval, rule: "user", approval: policy.ApprovalUser, callable: true},
		{name: "an operator is asked", policies: permit + operator, want: policy.NeedApproval, rule: "operator", approval: policy.ApprovalOperator, callable: true},
		{name: "the scope may be a list of one", policies: permit + listed, want: policy.NeedApproval, rule: "listed", approval: policy.ApprovalUser, callable: true},
		{name: "the strictest of several counts", policies: permit + user + operator, want: policy.NeedApproval, rule: "operator", approval: policy.ApprovalOperator, callable: true},
		{name: "the strictest of several counts, whichever is first", policies: permit + operator + user, want: policy.NeedApproval, rule: "operator", approval: policy.ApprovalOperator, callable: true},
		{name: "the first of equals is named", policies: permit + listed + user, want: policy.NeedApproval, rule: "listed", approval: policy.ApprovalUser, callable: true},
		{name: "nobody is asked where another forbids", policies: permit + user + forbid, want: policy.Deny, rule: "forbid"},
		{name: "nobody is asked where another forbids by arguments", policies: permit + operator + forbidIf, arguments: `{"n":1}`, want: policy.Deny, rule: "forbid-if", callable: true},
		{name: "nobody is asked where another cannot be evaluated", policies: permit + operator + broken, arguments: `{}`, want: policy.Deny, rule: "broken", broken: true, callable: true},
		{name: "nobody is asked where none permits", policies: user + operator, want: policy.Deny},
		{name: "nobody is asked where none permits these arguments", policies: user + permitIf, arguments: `{"n":2}`, want: policy.Deny, callable: true},
		{name: "somebody is asked where one permits these arguments", policies: user + permitIf, arguments: `{"n":1}`, want: policy.NeedApproval, rule: "user", approval: policy.ApprovalUser, callable: true},
		{name: "arguments first where others read them", policies: permit + user + forbidIf, want: policy.Incomplete, callable: true},
		{name: "arguments first where it reads them itself", policies: permit + large, want: policy.Incomplete, callable: true},
		{name: "arguments first where the stricter reads them", policies: permit + user + large, want: policy.Incomplete, callable: true},
		{name: "it applies by arguments", policies: permit + user + large, arguments: `{"n":101}`, want: policy.NeedApproval, rule: "large", approval: policy.ApprovalOperator, callable: true},
		{name: "it does not apply by arguments", policies: permit + large, arguments: `{"n":100}`, want: policy.Allow, rule: "permit", callable: true},
		{name: "the lesser is left when the stricter does not apply", policies: permit + large + user, arguments: `{"n":1}`, want: policy.NeedApproval, rule: "user", approval: policy.ApprovalUser, callable: true},
		{name: "one that cannot be evaluated forbids for good", policies: permit + user + large, arguments: `{"n":"many"}`, want: policy.Deny, rule: "large", broken: true, callable: true},
		{name: "it does not apply by the context", policies: permit + night, want: policy.Allow, rule: "permit", callable: true},
		{name: "it is for others", policies: permit + others, want: policy.Allow, rule: "permit", callable: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := load(t, tt.policies).Match(caller("a"), policy.NewAction("tools/call"), tool("look", reader))
			got := m.Decide(situation(t, tt.arguments))
			if got.Verdict != tt.want || got.Broken != tt.broken {
				t.Errorf("got %+v, want verdict %v, broken %v", got, tt.want, tt.broken)
			}
			var rule string
			var approval policy.Approval
			if got.Rule != nil {
				rule, approval = got.Rule.ID, got.Rule.Approval
			}
			if rule != tt.rule || approval != tt.approval && got.Verdict == policy.NeedApproval {
				t.Errorf("got rule %q with approval %v, want %q with %v", rule, approval, tt.rule, tt.approval)
			}
			if got := m.Callable(situation(t, "")); got != tt.callable {
				t.Errorf("got callable %v, want %v", got, tt.callable)
			}
		})
	}
}
