package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
)

// toolbox is an executor that has a few tools.
type toolbox struct {
	executorv1.UnimplementedExecutorServiceServer
	names []string
}

func (b *toolbox) ListTools(context.Context, *executorv1.ListToolsRequest) (*executorv1.ListToolsResponse, error) {
	resp := &executorv1.ListToolsResponse{}
	for _, name := range b.names {
		resp.Tools = append(resp.Tools, &executorv1.Tool{Definition: &providerv1.ToolDefinition{
			Name: name, InputSchema: []byte(`{"type":"object","properties":{"text":{"type":"string"},"size":{"type":"integer"}}}`),
		}})
	}
	return resp, nil
}

func newAsker(t *testing.T, decide func(bool, *authv1.SimulatedCase) *authv1.Explanation) (a *asker, stdout, stderr *bytes.Buffer) {
	t.Helper()
	s := newStatute()
	s.decide = decide
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	return &asker{
		policies: s.client(t), keys: newRingbook().client(t), out: stdout, err: stderr,
		executor: executorv1.NewExecutorServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) {
			executorv1.RegisterExecutorServiceServer(r, &toolbox{names: []string{"look", "odd", "pay", "run_sql_query"}})
		}, rpctest.As("sallyport"))),
	}, stdout, stderr
}

// asksAbout decides as rolesDecide does, where a key is its role.
func asksAbout(candidates bool, c *authv1.SimulatedCase) *authv1.Explanation {
	switch c.GetTarget() {
	case "look", "odd", "pay", "run_sql_query", "file:///x":
	default:
		return &authv1.Explanation{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_TOOL_UNKNOWN}
	}
	if id := c.GetKeyId(); id != "" {
		c.Subject = &authv1.SimulatedCase_Principal{Principal: described([]string{map[string]string{"aaaaaaaaaa": "admin"}[id] + "-"}, "")}
		if id == "aaaaaaaaaa" {
			c.GetPrincipal().Roles = []string{"admin"}
		}
	}
	return rolesDecide(candidates, c)
}

func TestAskingWhatSomebodyMayDo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		as   string
		role string
		tool string
		args []string
		json bool
		code int
		all  []string // are in what is printed
	}{
		{name: "a key by its name may", as: "ci", tool: "look", all: []string{"yes  look  as ci, key:aaaaaaaaaa (admin)", "policy     all (default.cedar:1)", "told       Admins may."}},
		{name: "a key by its id may not", as: "cccccccccc", tool: "look", code: exitNo, all: []string{"no  look", "near       would be allowed with: the role admin (all, default.cedar:1)", "next "}},
		{name: "a demo key by its one word", as: "intern", tool: "look", code: exitNo, all: []string{"as demo intern"}},
		{name: "a role may", role: "admin", tool: "look", all: []string{"yes  look  as admin"}},
		{name: "a role that no policy names", role: "amdin", tool: "look", code: exitNo, all: []string{`no policy names the role "amdin"; there are admin, analyst`}},
		{name: "it depends", role: "admin", tool: "odd", code: exitUsage, all: []string{
			"depends  odd", "depends    on the arguments size, beside hops (small, default.cedar:7)\nnext       Say them with --arg or --args; in a test",
			"inputs     arguments size\n           hops 0\n",
		}},
		{name: "it depends, for programs", role: "admin", tool: "odd", json: true, code: exitUsage, all: []string{
			`"depends_on":[{"approval":false,"arguments":["size"],"inputs":["hops"],"policy":"small","policy_source":"default.cedar:7"}]`,
		}},
		{name: "with arguments it does not", role: "admin", tool: "odd", args: []string{"size=7"}, all: []string{"yes  odd"}},
		{name: "an approval is neither", role: "admin", tool: "pay", code: exitUsage, all: []string{"approval  pay", "An operator can approve it"}},
		{name: "for programs", role: "admin", tool: "look", json: true, all: []string{`"answer":"yes"`, `"policy":"all"`}},
		{name: "a tool that is not there", role: "admin", tool: "run_sql_qery", code: exitUsage, all: []string{`there is no tool "run_sql_qery"; did you mean "run_sql_query"?`}},
		{name: "a tool like no other", role: "admin", tool: "zzzzzzzzzzzz", code: exitUsage, all: []string{`there is no tool "zzzzzzzzzzzz"; see`}},
		{name: "a key that is not there", as: "nobody", tool: "look", code: exitUsage, all: []string{`there is no key "nobody"`}},
		{name: "a key that is dead", as: "old", tool: "look", code: exitNo, all: []string{"no: the key bbbbbbbbbb (old) is revoked"}},
		{name: "a name that is another's id", as: "aaaaaaaaaa", tool: "look", code: exitUsage, all: []string{"more than one key: aaaaaaaaaa (ci), dddddddddd (aaaaaaaaaa)"}},
		{name: "an id that says that it is one", as: "key:aaaaaaaaaa", tool: "look", all: []string{"yes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, stdout, stderr := newAsker(t, asksAbout)
			a.json = tt.json
			s := situation{as: tt.as, steps: -1}
			if tt.role != "" {
				s.roles = []string{tt.role}
			}
			err := func() error {
				c, err := s.base()
				if err != nil {
					return err
				}
				c.Action, c.Target = authv1.Action_ACTION_TOOLS_CALL, tt.tool
				if c.Arguments, err = a.arguments(t.Context(), tt.tool, "", tt.args); err != nil {
					return err
				}
				return a.one(t.Context(), c, s)
			}()
			all := stdout.String() + stderr.String()
			if err != nil {
				all += err.Error()
			}
			if got := codeOf(err); got != tt.code {
				t.Errorf("got exit %d, want %d: %s", got, tt.code, all)
			}
			for _, want := range tt.all {
				if !strings.Contains(all, want) {
					t.Errorf("%q is not in\n%s", want, all)
				}
			}
		})
	}
}

func TestArgumentsOfAQuestion(t *testing.T) {
	t.Parallel()
	a, _, _ := newAsker(t, asksAbout)
	tests := []struct {
		name   string
		object string
		pairs  []string
		want   string
		err    string
	}{
		{name: "none are not known"},
		{name: "text and numbers by the schema", pairs: []string{"text=7", "size=7"}, want: `{"size":7,"text":"7"}`},
		{name: "JSON where the schema says nothing", pairs: []string{`more={"a":[1]}`, "note=some words"}, want: `{"more":{"a":[1]},"note":"some words"}`},
		{name: "one object as it is", object: `{"b":1, "a":2}`, want: `{"b":1, "a":2}`},
		{name: "an empty object is known", object: `{}`, want: `{}`},
		{name: "no pair", pairs: []string{"size"}, err: "not name=value"},
		{name: "one twice", pairs: []string{"size=1", "size=2"}, err: "given twice"},
		{name: "no object", object: "null", err: "not a JSON object"},
		{name: "both ways", object: "{}", pairs: []string{"size=1"}, err: "exclude each other"},
	}
	for _, tt := range tests {
		got, err := a.arguments(t.Context(), "look", tt.object, tt.pairs)
		if string(got) != tt.want || (got == nil) != (tt.want == "") || tt.err != "" && (codeOf(err) != exitUsage || !strings.Contains(err.Error(), tt.err)) || tt.err == "" && err != nil {
			t.Errorf("%s: got %s, error %v; want %s, %q", tt.name, got, err, tt.want, tt.err)
		}
	}
}

func TestListingWhatSomebodyMayCall(t *testing.T) {
	t.Parallel()
	a, stdout, _ := newAsker(t, asksAbout)
	s := situation{as: "ci", steps: -1}
	c, err := s.base()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.list(t.Context(), c, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"look           yes       all", "odd            depends", "depends on the arguments size, beside hops (small, default.cedar:7)", "pay            approval  ask"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
}

func TestQuestionsThatAreNoGood(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args string
		code int
		want string
	}{
		{"nobody is named", "can-i call look", exitUsage, "say who"},
		{"two are named", "can-i call look --as ci --role admin", exitUsage, "exclude each other"},
		{"a key has no scopes", "can-i call look --as ci --scope s", exitUsage, "--scope goes with --role"},
		{"a key has its own tenant", "can-i call look --as ci --tenant t", exitUsage, "--tenant goes with --role"},
		{"an address that is none", "can-i call look --as ci --address here", exitUsage, "not an IP address"},
		{"a time that is none", "can-i call look --as ci --time noon", exitUsage, "not a time"},
		{"no tool", "can-i call --as ci", exitUsage, "arg"},
		{"another list", "can-i list prompts --as ci", exitUsage, "prompts"},
		{"another verb", "can-i cal look", exitUsage, `did you mean "call"`},
		{"arguments of a resource", "can-i read file:///x --as ci --arg a=1", exitUsage, "unknown flag"},
		{"no running system", "can-i call look --as ci", exitUnreachable, "sallyport dev"},
		{"no decision", "why", exitUsage, "name the decision"},
		{"a decision and the last", "why d_01KB3ZJ5W8Q2V7N4XH6TTC9RDE --last", exitUsage, "name the decision"},
		{"an id that is none", "why 7", exitUsage, "not the id of a decision"},
		{"why without a running system", "why --last", exitUnreachable, "sallyport dev"},
		{"a folder that is not there", "policy check nowhere", exitUsage, "nowhere"},
		{"nothing to check", "policy check", exitUsage, "arg"},
		{"push without a running system", "policy push nowhere", exitUnreachable, "sallyport dev"},
		{"show without a running system", "policy show", exitUnreachable, "sallyport dev"},
		{"remove without a running system", "policy remove --yes", exitUnreachable, "sallyport dev"},
		{"diff without a running system", "policy diff nowhere", exitUnreachable, "sallyport dev"},
		{"a replay of no span", "policy diff nowhere --replay yesterday", exitUsage, "not a span"},
		{"a limit of nothing", "policy diff nowhere --limit 5", exitUsage, "--limit goes with --replay"},
		{"a limit that is none", "policy diff nowhere --replay 1h --limit 0", exitUsage, "--limit"},
		{"tests that are not there", "policy test nowhere.yaml", exitUsage, "nowhere.yaml"},
		{"an unknown policy command", "policy psuh", exitUsage, `did you mean "push"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"--state", t.TempDir()}, strings.Fields(tt.args)...), strings.NewReader(""), &stdout, &stderr)
			if code != tt.code || !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("got exit %d, %q; want %d, %q", code, stderr.String(), tt.code, tt.want)
			}
		})
	}
}
