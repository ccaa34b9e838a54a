package auth_test

import (
	"crypto/sha256"
	"fmt"
	"testing"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func TestTheUserOfACallerAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		tool string
		call func(text, other, id string) *authv1.AuthorizeRequest
		want auditv1.Verdict
		then authv1.ApprovalState // of the approval
	}{
		{"he approves", forUser, func(text, _, id string) *authv1.AuthorizeRequest {
			return answered(withArguments(text, forUser, customer7), id, true)
		}, allow, authv1.ApprovalState_APPROVAL_STATE_USED},
		{"he refuses", forUser, func(text, _, id string) *authv1.AuthorizeRequest {
			return answered(withArguments(text, forUser, customer7), id, false)
		}, deny, authv1.ApprovalState_APPROVAL_STATE_DENIED},
		{"he says nothing", forUser, func(text, _, _ string) *authv1.AuthorizeRequest {
			return withArguments(text, forUser, customer7)
		}, approval, authv1.ApprovalState_APPROVAL_STATE_PENDING},
		{"he answers about another", forUser, func(text, _, _ string) *authv1.AuthorizeRequest {
			return answered(withArguments(text, forUser, customer7), "a_01K00000000000000000000000", true)
		}, approval, authv1.ApprovalState_APPROVAL_STATE_PENDING},
		{"he approves other arguments", forUser, func(text, _, id string) *authv1.AuthorizeRequest {
			return answered(withArguments(text, forUser, `{"customer_id":8}`), id, true)
		}, approval, authv1.ApprovalState_APPROVAL_STATE_PENDING},
		{"somebody else approves", forUser, func(_, other, id string) *authv1.AuthorizeRequest {
			return answered(withArguments(other, forUser, customer7), id, true)
		}, approval, authv1.ApprovalState_APPROVAL_STATE_PENDING},
		{"somebody else refuses", forUser, func(_, other, id string) *authv1.AuthorizeRequest {
			return answered(withArguments(other, forUser, customer7), id, false)
		}, approval, authv1.ApprovalState_APPROVAL_STATE_PENDING},
		{"he approves what is for operators", forOperator, func(text, _, id string) *authv1.AuthorizeRequest {
			return answered(withArguments(text, forOperator, customer7), id, true)
		}, approval, authv1.ApprovalState_APPROVAL_STATE_PENDING},
		{"he refuses what is for operators", forOperator, func(text, _, id string) *authv1.AuthorizeRequest {
			return answered(withArguments(text, forOperator, customer7), id, false)
		}, approval, authv1.ApprovalState_APPROVAL_STATE_PENDING},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := open(t, newStore(t), approving(t, nil))
			text, other := h.roleKey(t, "admin"), h.roleKey(t, "analyst")
			asked := h.verdict(t, "before", withArguments(text, tt.tool, customer7), approval).GetApproval()
			if asked.GetByUser() != (tt.tool == forUser) {
				t.Errorf("got by_user %v", asked.GetByUser())
			}
			h.ledger.take()
			got := h.verdict(t, "the answer", tt.call(text, other, asked.GetId()), tt.want)
			if is := h.list(t, false)[0]; is.GetId() != asked.GetId() || is.GetState() != tt.then {
				t.Errorf("the approval is %v, want %v", is.GetState(), tt.then)
			}
			events := h.ledger.take()
			if tt.want == approval {
				if len(events) != 1 {
					t.Errorf("got %d events, want the decision alone", len(events))
				}
				return
			}
			// The answer is on record before what comes of it, by whom it was given.
			admin, decision := events[0], events[1]
			if op := admin.GetAdmin(); op.GetObject() != asked.GetId() || op.GetDetails()["by"] != "user" || op.GetDetails()["principal"] != got.GetPrincipal().GetId() ||
				admin.GetActor().GetPrincipal() != got.GetPrincipal().GetId() || admin.GetActor().GetAddress() != "192.0.2.7" ||
				(op.GetOperation() == "approval.approve") != (tt.want == allow) {
				t.Errorf("got event %v", admin)
			}
			if decision.GetDecision().GetApprovalId() != asked.GetId() || len(events) != 2 {
				t.Errorf("got events %v", events)
			}
			sum := sha256.Sum256([]byte(customer7))
			if got := admin.GetAdmin().GetDetails()["arguments_sha256"]; got != fmt.Sprintf("%x", sum) {
				t.Errorf("got hash %s of the arguments", got)
			}
		})
	}
}

func TestTheUserCanStopWhatAnOperatorHasApproved(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), approving(t, nil))
	text := h.roleKey(t, "admin")
	id := h.verdict(t, "before", withArguments(text, forUser, customer7), approval).GetApproval().GetId()
	h.say(t, id, true, "")
	h.verdict(t, "no", answered(withArguments(text, forUser, customer7), id, false), deny)
	h.verdict(t, "after", withArguments(text, forUser, customer7), deny)
}
