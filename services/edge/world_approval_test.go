package edge_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// The part of the world in which calls have to be approved: those of tools that
// are called so. What they are allowed by is used up, as in the real auth.

// fakeApprovals are what auth knows of such calls.
type fakeApprovals struct {
	mu      sync.Mutex
	all     []*fakeApproval
	turned  chan struct{} // closed when one is decided
	waiting int           // calls that wait for one now
	lost    bool          // nothing is told of them
}

type fakeApproval struct {
	id, call string
	state    authv1.ApprovalState
}

// needsApproval returns who can approve calls of a tool.
func needsApproval(tool string) (byUser, yes bool) {
	byUser = slices.Contains([]string{"approve_by_user", "approve_asks"}, tool)
	return byUser, byUser || tool == "approve_by_operator"
}

// decide decides about a call that has to be approved.
func (f *fakeApprovals) decide(req *authv1.AuthorizeRequest, byUser bool, resp *authv1.AuthorizeResponse) *authv1.AuthorizeResponse {
	if sum := sha256.Sum256(req.GetArguments()); !slices.Equal(sum[:], req.GetArgumentsSha256()) {
		return &authv1.AuthorizeResponse{Principal: anna(), ArgumentsNeeded: true}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	call := fmt.Sprintf("%s %s %x", req.GetCredential().GetToken(), req.GetTarget(), req.GetArgumentsSha256())
	a := f.find(func(a *fakeApproval) bool {
		return a.call == call && a.state != authv1.ApprovalState_APPROVAL_STATE_USED
	})
	if a == nil {
		a = &fakeApproval{fmt.Sprintf("a_01K0000000000000000000000%d", len(f.all)), call, authv1.ApprovalState_APPROVAL_STATE_PENDING}
		f.all = append(f.all, a)
	}
	if byUser && string(req.GetApproval()) == a.id {
		if a.state = authv1.ApprovalState_APPROVAL_STATE_APPROVED; req.GetApprovalRefused() {
			a.state = authv1.ApprovalState_APPROVAL_STATE_DENIED
		}
	}
	d := resp.GetDecision()
	d.Verdict, d.Reason, d.Policy, d.Message = auditv1.Verdict_VERDICT_DENY, auditv1.Reason_REASON_APPROVAL_REQUIRED, "payments-approved", "a person has to approve payments."
	switch a.state {
	case authv1.ApprovalState_APPROVAL_STATE_APPROVED:
		a.state = authv1.ApprovalState_APPROVAL_STATE_USED
		d.Verdict, d.Reason, resp.Grant = auditv1.Verdict_VERDICT_ALLOW, 0, []byte("grant for "+req.GetTarget())
	case authv1.ApprovalState_APPROVAL_STATE_PENDING:
		d.Verdict = auditv1.Verdict_VERDICT_APPROVAL
		resp.Approval = &authv1.PendingApproval{
			Id: a.id, ByUser: byUser, Expires: timestamppb.New(time.Now().Add(15 * time.Minute)), Question: `Do you approve this call of "` + req.GetTarget() + `"?`,
		}
	default:
		d.Message = "A person has denied exactly this call. The reason given: too much."
	}
	return resp
}

func (f *fakeApprovals) find(is func(*fakeApproval) bool) *fakeApproval {
	if i := slices.IndexFunc(f.all, is); i >= 0 {
		return f.all[i]
	}
	return nil
}

// say decides about all that are pending, as an operator.
func (f *fakeApprovals) say(state authv1.ApprovalState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.all {
		if a.state == authv1.ApprovalState_APPROVAL_STATE_PENDING {
			a.state = state
		}
	}
	if f.turned != nil {
		close(f.turned)
		f.turned = nil
	}
}

// held waits until so many calls wait for an approval.
func (f *fakeApprovals) held(t testing.TB, n int) {
	t.Helper()
	until(t, "calls wait for an approval", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.waiting == n
	})
}

func (a *fakeAuth) AwaitApproval(ctx context.Context, req *authv1.AwaitApprovalRequest) (*authv1.AwaitApprovalResponse, error) {
	f := &a.approvals
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		return nil, errDown
	}
	f.waiting++
	defer func() { f.waiting-- }()
	is := f.find(func(a *fakeApproval) bool { return a.id == req.GetId() })
	if is == nil {
		return nil, fault.New(codes.NotFound, authv1.Reason_REASON_APPROVAL_UNKNOWN, "no such approval")
	}
	for is.state == authv1.ApprovalState_APPROVAL_STATE_PENDING {
		if f.turned == nil {
			f.turned = make(chan struct{})
		}
		turned := f.turned
		f.mu.Unlock()
		select {
		case <-turned:
			f.mu.Lock()
		case <-ctx.Done():
			f.mu.Lock()
			return nil, ctx.Err()
		}
	}
	return &authv1.AwaitApprovalResponse{State: is.state}, nil
}
