package auth_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

const customer7 = `{"customer_id":7}`

func TestLifeOfAnApproval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), approving(t, nil))
		id, text := h.key(t, &authv1.CreateKeyRequest{Name: "ci", Owner: "anna", Roles: []string{"admin"}})
		if resp := h.authorize(t, call(text, forOperator, customer7)); !resp.GetArgumentsNeeded() || resp.GetDecision() != nil {
			t.Errorf("without arguments: got %v, want that they are needed", resp)
		}
		h.ledger.take()

		first := h.verdict(t, "first", withArguments(text, forOperator, customer7), approval)
		time.Sleep(time.Millisecond)
		a := first.GetApproval()
		if !strings.HasPrefix(a.GetId(), "a_") || a.GetByUser() || time.Until(a.GetExpires().AsTime()) != 15*time.Minute-time.Millisecond ||
			a.GetQuestion() != `Do you approve this call of "delete_customer_account"? Deleting an account cannot be undone.` {
			t.Errorf("got %v", a)
		}
		if d := first.GetDecision(); d.GetPolicy() != "deletions-approved" || d.GetMessage() != "Deleting an account cannot be undone." {
			t.Errorf("got decision %v", d)
		}
		again := h.verdict(t, "again", withArguments(text, forOperator, customer7), approval)
		if again.GetApproval().GetId() != a.GetId() || again.GetDecision().GetId() == first.GetDecision().GetId() {
			t.Errorf("again: got approval %s by decision %s, want the same approval by another decision", again.GetApproval().GetId(), again.GetDecision().GetId())
		}
		if other := h.verdict(t, "other arguments", withArguments(text, forOperator, `{"customer_id":8}`), approval); other.GetApproval().GetId() == a.GetId() {
			t.Error("another call has the same approval")
		}
		listed := h.list(t, true)
		if len(listed) != 2 || listed[0].GetId() != a.GetId() {
			t.Fatalf("got %v listed, want two, the older first", listed)
		}
		want := &authv1.CallApproval{
			Id: a.GetId(), State: authv1.ApprovalState_APPROVAL_STATE_PENDING, Principal: first.GetPrincipal(), Tool: forOperator,
			Arguments: []byte(customer7), Policy: "deletions-approved", PolicySource: "approvals.cedar:4", Reason: "Deleting an account cannot be undone.",
			CreateTime: listed[0].GetCreateTime(), ExpireTime: a.GetExpires(), DecisionId: first.GetDecision().GetId(), Origin: from("192.0.2.7"),
		}
		if !proto.Equal(listed[0], want) {
			t.Errorf("listed: got %v, want %v", listed[0], want)
		}

		time.Sleep(time.Minute)
		if got := h.say(t, a.GetId(), true, "as agreed"); got.GetState() != authv1.ApprovalState_APPROVAL_STATE_APPROVED || got.GetDecidedBy() != "olga" ||
			got.GetNote() != "as agreed" || time.Until(got.GetExpireTime().AsTime()) != 5*time.Minute {
			t.Errorf("approved: got %v", got)
		}
		if err := h.decide(t, a.GetId()); !fault.Is(err, authv1.Reason_REASON_APPROVAL_DECIDED) || status.Code(err) != codes.FailedPrecondition {
			t.Errorf("decided twice: got %v, want %v", err, authv1.Reason_REASON_APPROVAL_DECIDED)
		}
		used := h.verdict(t, "approved", withArguments(text, forOperator, customer7), allow)
		if next := h.verdict(t, "once more", withArguments(text, forOperator, customer7), approval); next.GetApproval().GetId() == a.GetId() {
			t.Error("an approval that was used up is pending again")
		}

		type line struct{ who, decision, what, approval string }
		var got []line
		for _, e := range h.ledger.take() {
			l := line{who: e.GetActor().GetPrincipal(), decision: e.GetDecisionId()}
			if d := e.GetDecision(); d != nil {
				l.what, l.approval = d.GetVerdict().String()+" "+d.GetRule()+" "+d.GetMessage(), d.GetApprovalId()
			} else {
				l.what, l.approval = e.GetAdmin().GetOperation()+" by "+e.GetAdmin().GetDetails()["by"]+": "+e.GetAdmin().GetDetails()["note"], e.GetAdmin().GetObject()
			}
			if l.approval == a.GetId() {
				got = append(got, l)
			}
		}
		const asked = "VERDICT_APPROVAL deletions-approved Deleting an account cannot be undone."
		wantLines := []line{
			{"key:" + id, first.GetDecision().GetId(), asked, a.GetId()},
			{"key:" + id, again.GetDecision().GetId(), asked, a.GetId()},
			{"role:sallyport", first.GetDecision().GetId(), "approval.approve by olga: as agreed", a.GetId()},
			{"key:" + id, used.GetDecision().GetId(), "VERDICT_ALLOW deletions-approved Approved by olga.", a.GetId()},
		}
		if diff := cmp.Diff(wantLines, got, cmp.AllowUnexported(line{})); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
	})
}

// decide approves and returns the error.
func (h *house) decide(t testing.TB, id string) error {
	t.Helper()
	_, err := h.approvals.DecideApproval(t.Context(), &authv1.DecideApprovalRequest{Id: id, Approve: true, DecidedBy: "olga"})
	return err
}

// What an approval is not for is never allowed by it.
func TestAnApprovalIsForOneCallOnly(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		call func(t *testing.T, h *house, text, other string) *authv1.AuthorizeRequest
	}{
		{"another principal", func(_ *testing.T, _ *house, _, other string) *authv1.AuthorizeRequest {
			return withArguments(other, forOperator, customer7)
		}},
		{"one byte of the arguments", func(_ *testing.T, _ *house, text, _ string) *authv1.AuthorizeRequest {
			return withArguments(text, forOperator, `{"customer_id":8}`)
		}},
		{"a blank in the arguments", func(_ *testing.T, _ *house, text, _ string) *authv1.AuthorizeRequest {
			return withArguments(text, forOperator, `{"customer_id": 7}`)
		}},
		{"another tool", func(_ *testing.T, _ *house, text, _ string) *authv1.AuthorizeRequest {
			return withArguments(text, forUser, customer7)
		}},
		{"another definition of the tool", func(t *testing.T, h *house, text, _ string) *authv1.AuthorizeRequest {
			c := catalogue()
			for _, e := range c.GetEntries() {
				e.Digest = bytes.Repeat([]byte{1}, 32)
			}
			value, err := proto.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.store.Put(t.Context(), bus.Catalogue, "current", value); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return withArguments(text, forOperator, customer7)
		}},
		{"later than it can be used", func(_ *testing.T, _ *house, text, _ string) *authv1.AuthorizeRequest {
			time.Sleep(5 * time.Minute)
			return withArguments(text, forOperator, customer7)
		}},
		{"twice", func(t *testing.T, h *house, text, _ string) *authv1.AuthorizeRequest {
			h.verdict(t, "the call itself", withArguments(text, forOperator, customer7), allow)
			return withArguments(text, forOperator, customer7)
		}},
		{"twice, with the word of the user", func(t *testing.T, h *house, text, _ string) *authv1.AuthorizeRequest {
			h.verdict(t, "the call itself", withArguments(text, forOperator, customer7), allow)
			return answered(withArguments(text, forOperator, customer7), h.list(t, false)[0].GetId(), true)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := open(t, newStore(t), approving(t, nil))
				text, other := h.roleKey(t, "admin"), h.roleKey(t, "analyst")
				id := h.verdict(t, "before", withArguments(text, forOperator, customer7), approval).GetApproval().GetId()
				h.say(t, id, true, "")
				synctest.Wait()
				got := h.verdict(t, "after", tt.call(t, h, text, other), approval)
				if got.GetApproval().GetId() == id {
					t.Error("it has the same approval")
				}
			})
		})
	}
}

// A denial holds for a time, and is told with its note.
func TestDenials(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), approving(t, nil))
		text := h.roleKey(t, "admin")
		id := h.verdict(t, "before", withArguments(text, forOperator, customer7), approval).GetApproval().GetId()
		h.say(t, id, false, "That customer pays.")
		got := h.verdict(t, "denied", withArguments(text, forOperator, customer7), deny).GetDecision()
		if want := "An operator has denied exactly this call. The reason given: That customer pays."; got.GetMessage() != want || got.GetPolicy() != "deletions-approved" {
			t.Errorf("got %v, want the message %q", got, want)
		}
		time.Sleep(5*time.Minute - time.Second)
		h.verdict(t, "still", withArguments(text, forOperator, customer7), deny)
		time.Sleep(time.Second)
		if next := h.verdict(t, "later", withArguments(text, forOperator, customer7), approval); next.GetApproval().GetId() == id {
			t.Error("what was denied is pending again")
		}
	})
}

func TestNobodyDecidesInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), approving(t, func(c *auth.Config) { c.Approvals.PendingFor = time.Minute }))
		text := h.roleKey(t, "admin")
		id := h.verdict(t, "before", withArguments(text, forUser, customer7), approval).GetApproval().GetId()
		time.Sleep(time.Minute)
		if err := h.decide(t, id); !fault.Is(err, authv1.Reason_REASON_APPROVAL_DECIDED) || !strings.Contains(err.Error(), "expired") {
			t.Errorf("got %v, want that it has expired", err)
		}
		if all := h.list(t, false); len(all) != 1 || all[0].GetState() != authv1.ApprovalState_APPROVAL_STATE_EXPIRED {
			t.Errorf("got %v, want it listed as expired", all)
		}
		if len(h.list(t, true)) != 0 {
			t.Error("it is listed as pending")
		}
		if next := h.verdict(t, "the answer comes late", answered(withArguments(text, forUser, customer7), id, true), approval); next.GetApproval().GetId() == id {
			t.Error("what has expired is pending again")
		}
		time.Sleep(25 * time.Hour)
		if all := h.list(t, false); len(all) != 0 {
			t.Errorf("a day later: got %v listed, want none", all)
		}
	})
}

func TestAnAgentCannotFloodApprovers(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), approving(t, func(c *auth.Config) { c.Approvals.MaxPending = 3 }))
	text, other := h.roleKey(t, "admin"), h.roleKey(t, "analyst")
	arguments := func(n int) string { return fmt.Sprintf(`{"customer_id":%d}`, n) }
	for n := range 3 {
		h.verdict(t, "within the bound", withArguments(text, forOperator, arguments(n)), approval)
	}
	got := h.authorize(t, withArguments(text, forOperator, arguments(3))).GetDecision()
	if got.GetVerdict() != deny || got.GetReason() != auditv1.Reason_REASON_CONCURRENCY_EXCEEDED || !strings.Contains(got.GetMessage(), "3 calls of this caller wait") {
		t.Errorf("past the bound: got %v", got)
	}
	h.verdict(t, "one of before", withArguments(text, forOperator, arguments(2)), approval)
	h.verdict(t, "somebody else", withArguments(other, forOperator, arguments(3)), approval)
	h.say(t, h.list(t, true)[0].GetId(), false, "")
	h.verdict(t, "when one is decided", withArguments(text, forOperator, arguments(3)), approval)
}

// Of what has ended only so much is kept of each caller, for he could make any
// number of it.
func TestWhatHasEndedMakesRoom(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), approving(t, nil))
	text := h.roleKey(t, "admin")
	for n := range 220 {
		arguments := fmt.Sprintf(`{"customer_id":%d}`, n)
		id := h.verdict(t, "asked", withArguments(text, forUser, arguments), approval).GetApproval().GetId()
		h.verdict(t, "approved", answered(withArguments(text, forUser, arguments), id, true), allow)
	}
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	if n := len(h.store.buckets[bus.CallApprovals.Name]); n != 200 {
		t.Errorf("the store keeps %d, want 200", n)
	}
}

func TestWhatCannotBeShownIsNotAsked(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), approving(t, nil))
	text := h.roleKey(t, "admin")
	fits := `{"reason":"` + strings.Repeat("x", 16<<10-len(`{"reason":""}`)) + `"}`
	h.verdict(t, "16 KiB", withArguments(text, forOperator, fits), approval)
	got := h.verdict(t, "one byte more", withArguments(text, forOperator, fits+" "), deny)
	if !strings.Contains(got.GetDecision().GetMessage(), "larger than 16 KiB") {
		t.Errorf("got %q", got.GetDecision().GetMessage())
	}
	if n := len(h.list(t, true)); n != 1 {
		t.Errorf("%d are pending, want 1", n)
	}
}

// One approval lets one call through, however many ask at once, and whomever.
func TestAnApprovalIsUsedOnceAmongAllProcesses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		tool string
		give func(t *testing.T, h *house, id string)
		req  func(text, tool, id string) *authv1.AuthorizeRequest
	}{
		{
			"an operator has approved", forOperator, func(t *testing.T, h *house, id string) { h.say(t, id, true, "") },
			func(text, tool, _ string) *authv1.AuthorizeRequest { return withArguments(text, tool, customer7) },
		},
		{
			"the user approves", forUser, func(*testing.T, *house, string) {},
			func(text, tool, id string) *authv1.AuthorizeRequest {
				return answered(withArguments(text, tool, customer7), id, true)
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, stateDir, edit := bustest.New(t), t.TempDir(), approving(t, nil)
			data, err := proto.Marshal(catalogue())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Put(t.Context(), bus.Catalogue, "current", data); err != nil {
				t.Fatal(err)
			}
			var houses []*house
			for range 2 {
				h, stop := overNATS(t, b, stateDir, edit)
				defer stop()
				houses = append(houses, h)
			}
			text := houses[0].roleKey(t, "admin")
			eventually(t, "the other knows the key", func() bool { return authenticates(t, houses[1], text) })
			id := houses[0].verdict(t, "asked", withArguments(text, tt.tool, customer7), approval).GetApproval().GetId()
			tt.give(t, houses[1], id)

			var allowed, asked atomic.Int64
			var all sync.WaitGroup
			start := make(chan struct{})
			for n := range 50 {
				all.Go(func() {
					<-start
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					resp, err := houses[n%2].auth.Authorize(ctx, tt.req(text, tt.tool, id))
					switch {
					case err != nil:
						t.Errorf("Authorize: %v", err)
					case resp.GetDecision().GetVerdict() == allow:
						allowed.Add(1)
					case resp.GetDecision().GetVerdict() == approval:
						asked.Add(1)
					}
				})
			}
			close(start)
			all.Wait()
			if a, n := allowed.Load(), asked.Load(); a != 1 || n != 49 {
				t.Errorf("%d of 50 calls were allowed and %d have to be approved, want 1 and 49", a, n)
			}
		})
	}
}
