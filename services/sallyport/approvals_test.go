package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
)

// docket is an auth service that knows some approvals, one on each page.
type docket struct {
	authv1.UnimplementedApprovalServiceServer
	all []*authv1.CallApproval
}

func (c *docket) ListApprovals(_ context.Context, req *authv1.ListApprovalsRequest) (*authv1.ListApprovalsResponse, error) {
	resp := new(authv1.ListApprovalsResponse)
	for _, a := range c.all {
		if a.GetId() <= req.GetPageToken() || req.GetPending() && a.GetState() != authv1.ApprovalState_APPROVAL_STATE_PENDING {
			continue
		}
		resp.Approvals, resp.NextPageToken = append(resp.Approvals, proto.CloneOf(a)), a.GetId()
		break
	}
	return resp, nil
}

func (c *docket) DecideApproval(_ context.Context, req *authv1.DecideApprovalRequest) (*authv1.DecideApprovalResponse, error) {
	for _, a := range c.all {
		if a.GetId() == req.GetId() {
			if a.State = authv1.ApprovalState_APPROVAL_STATE_DENIED; req.GetApprove() {
				a.State = authv1.ApprovalState_APPROVAL_STATE_APPROVED
			}
			a.DecidedBy, a.Note = req.GetDecidedBy(), req.GetNote()
			return &authv1.DecideApprovalResponse{Approval: a}, nil
		}
	}
	return nil, fault.New(codes.NotFound, authv1.Reason_REASON_APPROVAL_UNKNOWN, "no approval has the id %q", req.GetId())
}

func newDesk(t *testing.T, asJSON bool) (*desk, *bytes.Buffer) {
	t.Helper()
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	c := &docket{all: []*authv1.CallApproval{{
		Id: "a_1", State: authv1.ApprovalState_APPROVAL_STATE_USED, Tool: "echo", Arguments: []byte(`{}`), Principal: &authv1.Principal{Id: "key:b"},
		ByUser: true, DecidedBy: "user", CreateTime: timestamppb.New(noon), ExpireTime: timestamppb.New(noon), DecideTime: timestamppb.New(noon),
	}, {
		Id: "a_2", State: authv1.ApprovalState_APPROVAL_STATE_PENDING, Tool: "delete_customer_account",
		Arguments: []byte(`{"customer_id":7,"reason":"` + "x\u202ey" + `\u001b[2J, and many more words than there is room for"}`),
		Principal: &authv1.Principal{Id: "key:a", Name: "ci", Roles: []string{"admin"}}, Policy: "deletions-approved", PolicySource: "p.cedar:3", Reason: "It cannot be undone.",
		CreateTime: timestamppb.New(noon), ExpireTime: timestamppb.New(noon.Add(15 * time.Minute)), DecisionId: "d_1",
		Origin: &authv1.Origin{Address: "192.0.2.7", Client: "sly\x1b[31m/1"},
	}}}
	out := new(bytes.Buffer)
	conn := rpctest.Serve(t, func(r grpc.ServiceRegistrar) { authv1.RegisterApprovalServiceServer(r, c) }, rpctest.As("sallyport"))
	return &desk{client: authv1.NewApprovalServiceClient(conn), out: out, json: asJSON}, out
}

func TestApprovalsForPeople(t *testing.T) {
	t.Parallel()
	const whole = `a_2 is pending
  tool      delete_customer_account
  caller    ci (key:a), roles admin
  from      192.0.2.7 sly<U+001B>[31m/1
  policy    deletions-approved (p.cedar:3): It cannot be undone.
  approver  operator
  asked     2026-11-24T12:00:00Z, until 2026-11-24T12:15:00Z
  decision  d_1
  arguments {
    "customer_id": 7,
    "reason": "x<U+202E>y\u001b[2J, and many more words than there is room for"
  }
`
	decide := func(id string, yes bool) func(context.Context, *desk) error {
		return func(ctx context.Context, d *desk) error {
			return d.decide(ctx, &authv1.DecideApprovalRequest{Id: id, Approve: yes, DecidedBy: "olga", Note: "no"})
		}
	}
	tests := []struct {
		name string
		json bool
		work func(context.Context, *desk) error
		want []string
		not  string
		code int
	}{
		{name: "those that are pending", work: func(ctx context.Context, d *desk) error { return d.list(ctx, true) }, want: []string{
			"ID   STATE    TOOL                     ARGUMENTS", "a_2  pending  delete_customer_account  {\"customer_id\":7,\"reason\":\"x<U+202E>y\\u001b[2J, and many mo…  ci      operator",
		}, not: "a_1"},
		{name: "all", work: func(ctx context.Context, d *desk) error { return d.list(ctx, false) }, want: []string{"a_1  used", "key:b", "a_2  pending"}},
		{name: "for programs", json: true, work: func(ctx context.Context, d *desk) error { return d.list(ctx, true) }, want: []string{`"arguments":{"customer_id":7,`, `"by_user":false`, `"id":"a_2"`, `"state":"pending"`}},
		{name: "one", work: func(ctx context.Context, d *desk) error { return d.show(ctx, "a_2") }, want: []string{whole}},
		{name: "one that is not there", work: func(ctx context.Context, d *desk) error { return d.show(ctx, "a_3") }, code: exitNo},
		{name: "approve", work: decide("a_2", true), want: []string{"a_2 is approved: delete_customer_account of ci, once, until 2026-11-24T12:15:00Z\n"}},
		{name: "deny", work: decide("a_2", false), want: []string{"a_2 is denied: delete_customer_account of ci\n"}},
		{name: "approve for programs", json: true, work: decide("a_2", true), want: []string{`"decided_by":"olga"`, `"state":"approved"`}},
		{name: "approve what is not there", work: decide("a_3", true), code: exitNo},
		{name: "watch", work: func(ctx context.Context, d *desk) error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			return d.watch(ctx, time.Hour)
		}, want: []string{whole}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, out := newDesk(t, tt.json)
			err := tt.work(t.Context(), d)
			if code := codeOf(err); code != tt.code {
				t.Errorf("got %v, want exit %d", err, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got\n%s\nwant in it\n%s", out, want)
				}
			}
			if tt.not != "" && strings.Contains(out.String(), tt.not) {
				t.Errorf("got %q in\n%s", tt.not, out)
			}
		})
	}
}

// approving is a configuration whose policies want deletions approved by an
// operator, and that the user knows whose file is read.
func approving(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	defaults, err := os.ReadFile("../auth/policies/default.cedar")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"default.cedar": string(defaults),
		"approvals.cedar": `@id("deletions-approved")
@reason("Deleting an account cannot be undone.")
@approval("operator")
forbid (principal, action == Action::"tools/call", resource == Tool::"delete_customer_account");

@id("files-seen")
@reason("Somebody should know whose file is read.")
@approval("user")
forbid (principal, action == Action::"tools/call", resource == Tool::"get_customer");
`,
		"sallyport.yaml": "roles: {auth: {policies: [" + dir + "]}, quota: {rules: []}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "sallyport.yaml")
}

// pendingApproval waits until exactly one call has to be approved.
func pendingApproval(t *testing.T, i instance.Instance) (id, decision string) {
	t.Helper()
	eventually(t, "a call has to be approved", func() error {
		code, stdout, stderr := sallyport(t, i, "approvals", "list", "-o", "json")
		var all []struct {
			ID       string
			Decision string `json:"decision_id"`
		}
		if err := json.Unmarshal([]byte(stdout), &all); code != exitOK || err != nil || len(all) != 1 {
			return fmt.Errorf("exit %d, %w: %s%s", code, err, stdout, stderr)
		}
		id, decision = all[0].ID, all[0].Decision
		return nil
	})
	return id, decision
}

// The whole way: an admin's call is held until an operator has approved it, and
// all of it is on record.
func TestDeletionsWaitForAnOperator(t *testing.T) {
	t.Parallel()
	for shape, args := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			i, _ := dev(t, t.TempDir(), append([]string{"--config", approving(t)}, args...)...)
			type answer struct {
				code   int
				stdout string
			}
			call := func(customer string) <-chan answer {
				got := make(chan answer, 1)
				go func() {
					var out, errOut bytes.Buffer
					code := run(t.Context(), []string{"--state", i.StateDir, "call", "delete_customer_account", "customer_id=" + customer, "reason=asked to", "-o", "json"}, strings.NewReader(""), &out, &errOut)
					got <- answer{code, out.String()}
				}()
				return got
			}
			if _, stdout, _ := sallyport(t, i, "call", "delete_customer_account", "customer_id=3", "--as", "intern"); !strings.Contains(stdout, "destructive-admins-only") {
				t.Errorf("an intern: got %s, want it denied and nobody asked", stdout)
			}

			held := call("3")
			id, asked := pendingApproval(t, i)
			if code, stdout, stderr := sallyport(t, i, "approvals", "show", id); code != exitOK || !strings.Contains(stdout, `"customer_id": 3`) || !strings.Contains(stdout, "demo admin") {
				t.Errorf("show: exit %d\n%s%s", code, stdout, stderr)
			}
			if code, stdout, stderr := sallyport(t, i, "approvals", "approve", id, "--by", "olga", "--note", "asked Anna"); code != exitOK || !strings.Contains(stdout, "is approved") {
				t.Errorf("approve: exit %d\n%s%s", code, stdout, stderr)
			}
			got := <-held
			if got.code != exitOK || !strings.Contains(got.stdout, `\"deleted\":true`) {
				t.Errorf("the call: exit %d, %s", got.code, got.stdout)
			}
			decision := decisionOf(t, got.stdout)
			awaitEvents(t, i, asked, "DECISION:VERDICT_APPROVAL:REASON_APPROVAL_REQUIRED")
			awaitEvents(t, i, decision, "DECISION:VERDICT_ALLOW", "INTENT", "OUTCOME:STATUS_OK")
			for d, want := range map[string][]string{
				asked:    {`"approval_id":"` + id + `"`, `"operation":"approval.approve"`, `"object":"` + id + `"`, `"by":"olga"`, `"note":"asked Anna"`},
				decision: {`"approval_id":"` + id + `"`, `"rule":"deletions-approved"`},
			} {
				_, stdout, _ := sallyport(t, i, "audit", "tail", "--decision", d, "-o", "json")
				for _, w := range want {
					if !strings.Contains(strings.ReplaceAll(stdout, `": "`, `":"`), w) {
						t.Errorf("the record of %s has no %s:\n%s", d, w, stdout)
					}
				}
			}
			if code, _, stderr := sallyport(t, i, "approvals", "approve", id); code != exitNo || !strings.Contains(stderr, "used") {
				t.Errorf("approve again: exit %d, %s", code, stderr)
			}
			if code, _, stderr := sallyport(t, i, "approvals", "deny", id); code != exitUsage || !strings.Contains(stderr, "--note") {
				t.Errorf("deny without a note: exit %d, %s", code, stderr)
			}

			held = call("4")
			id, _ = pendingApproval(t, i)
			if code, _, stderr := sallyport(t, i, "approvals", "deny", id, "--note", "that customer pays"); code != exitOK {
				t.Errorf("deny: exit %d, %s", code, stderr)
			}
			if got := <-held; got.code != exitNo || !strings.Contains(got.stdout, "that customer pays") || !strings.Contains(got.stdout, id) {
				t.Errorf("the denied call: exit %d, %s", got.code, got.stdout)
			}
			if code, stdout, _ := sallyport(t, i, "approvals", "list", "--all"); code != exitOK || strings.Count(stdout, "\n") != 3 || !strings.Contains(stdout, "used") || !strings.Contains(stdout, "denied") {
				t.Errorf("list --all: exit %d\n%s", code, stdout)
			}
		})
	}
}

// withKey adds a key to each request.
type withKey string

// RoundTrip implements [http.RoundTripper].
func (k withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}

// A client of either era asks its user, sees his yes done, and his no told.
func TestUsersApproveInTheirClients(t *testing.T) {
	t.Parallel()
	i, _ := dev(t, t.TempDir(), "--config", approving(t))
	for _, revision := range []string{"2026-07-28", "2025-11-25"} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			asked := make(chan string, 4)
			result := &mcp.ElicitResult{}
			client := mcp.NewClient(&mcp.Implementation{Name: "docket", Version: "1"}, &mcp.ClientOptions{
				ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					asked <- r.Params.Message
					return result, nil
				},
			})
			session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
				Endpoint: i.MCPURL, HTTPClient: &http.Client{Transport: withKey(i.Keys["admin"])}, MaxRetries: -1,
			}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = session.Close() }() // the answers are what counts
			if got := session.InitializeResult().ProtocolVersion; got != revision {
				t.Fatalf("got revision %s", got)
			}
			customer := map[string]int{"2026-07-28": 7, "2025-11-25": 8}[revision] // each client's calls are its own
			for _, tt := range []struct {
				answer mcp.ElicitResult
				want   string
				fails  bool
			}{
				{mcp.ElicitResult{Action: "accept", Content: map[string]any{"approve": true}}, `"customer_id"`, false},
				{mcp.ElicitResult{Action: "accept", Content: map[string]any{"approve": true}}, `"customer_id"`, false}, // for the next call he is asked again
				{mcp.ElicitResult{Action: "decline"}, "The user has denied exactly this call", true},
			} {
				*result = tt.answer
				r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get_customer", Arguments: map[string]any{"customer_id": customer}})
				if err != nil {
					t.Fatal(err)
				}
				text := r.Content[0].(*mcp.TextContent).Text
				if r.IsError != tt.fails || !strings.Contains(text, tt.want) {
					t.Errorf("got %s, want %s", text, tt.want)
				}
				if got, want := <-asked, fmt.Sprintf("Tool: get_customer\nArguments: {\n  \"customer_id\": %d\n}", customer); !strings.HasSuffix(got, want) {
					t.Errorf("he was asked %q, want %q", got, want)
				}
			}
		})
	}
}
