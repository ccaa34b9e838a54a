package auth_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// approvalPolicies let everybody do everything, but for calls that somebody has
// to approve.
const approvalPolicies = `
@id("all") permit (principal, action, resource);

@id("deletions-approved")
@reason("Deleting an account cannot be undone.")
@approval("operator")
forbid (principal, action == Action::"tools/call", resource == Tool::"delete_customer_account");

@id("customers-seen")
@reason("Somebody should know whose file is read.")
@approval("user")
forbid (principal, action == Action::"tools/call", resource == Tool::"get_customer");
`

// The two tools, and the two verdicts beside allow.
const (
	forOperator = "delete_customer_account"
	forUser     = "get_customer"
	approval    = auditv1.Verdict_VERDICT_APPROVAL
	deny        = auditv1.Verdict_VERDICT_DENY
	allow       = auditv1.Verdict_VERDICT_ALLOW
)

// approving writes the policies to a file and returns a change of configuration
// that uses them.
func approving(t testing.TB, edit func(*auth.Config)) func(*auth.Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "approvals.cedar")
	if err := os.WriteFile(file, []byte(approvalPolicies), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *auth.Config) {
		c.Policies = []string{file}
		if edit != nil {
			edit(c)
		}
	}
}

// authorize asks, with arguments.
func (h *house) authorize(t testing.TB, req *authv1.AuthorizeRequest) *authv1.AuthorizeResponse {
	t.Helper()
	resp, err := h.auth.Authorize(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(resp.GetGrant()) > 0, resp.GetDecision().GetVerdict() == allow; got != want {
		t.Fatalf("got a grant %v with verdict %v", got, resp.GetDecision().GetVerdict())
	}
	if got, want := resp.GetApproval() != nil, resp.GetDecision().GetVerdict() == approval; got != want {
		t.Fatalf("got an approval %v with verdict %v", got, resp.GetDecision().GetVerdict())
	}
	return resp
}

// verdict asks and checks the verdict and the reason that go together.
func (h *house) verdict(t testing.TB, what string, req *authv1.AuthorizeRequest, want auditv1.Verdict) *authv1.AuthorizeResponse {
	t.Helper()
	resp := h.authorize(t, req)
	reason := auditv1.Reason_REASON_UNSPECIFIED
	if want != allow {
		reason = auditv1.Reason_REASON_APPROVAL_REQUIRED
	}
	if d := resp.GetDecision(); d.GetVerdict() != want || d.GetReason() != reason {
		t.Errorf("%s: got %v %v %q, want %v", what, d.GetVerdict(), d.GetReason(), d.GetMessage(), want)
	}
	return resp
}

// answered is a request in which the caller's user has said yes or no.
func answered(req *authv1.AuthorizeRequest, id string, yes bool) *authv1.AuthorizeRequest {
	req.Approval, req.ApprovalRefused = []byte(id), !yes
	return req
}

// say decides as an operator.
func (h *house) say(t testing.TB, id string, yes bool, note string) *authv1.CallApproval {
	t.Helper()
	resp, err := h.approvals.DecideApproval(t.Context(), &authv1.DecideApprovalRequest{Id: id, Approve: yes, DecidedBy: "olga", Note: note})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetApproval()
}

// list returns what an operator sees.
func (h *house) list(t testing.TB, pending bool) []*authv1.CallApproval {
	t.Helper()
	resp, err := h.approvals.ListApprovals(t.Context(), &authv1.ListApprovalsRequest{Pending: pending})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetApprovals()
}

// await waits for an approval at most so long.
func (h *house) await(t testing.TB, id string, most time.Duration) (authv1.ApprovalState, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	resp, err := h.auth.AwaitApproval(ctx, &authv1.AwaitApprovalRequest{Id: id})
	return resp.GetState(), err
}
