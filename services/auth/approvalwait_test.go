package auth_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

func TestAwaitApproval(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		until  func(t *testing.T, h *house, text, id string)
		want   authv1.ApprovalState
		after  time.Duration
		reason fault.Reason
	}{
		{name: "an operator approves", until: func(t *testing.T, h *house, _, id string) { h.say(t, id, true, "") }, want: authv1.ApprovalState_APPROVAL_STATE_APPROVED},
		{name: "an operator denies", until: func(t *testing.T, h *house, _, id string) { h.say(t, id, false, "") }, want: authv1.ApprovalState_APPROVAL_STATE_DENIED},
		{name: "the user approves", until: func(t *testing.T, h *house, text, id string) {
			h.verdict(t, "the answer", answered(withArguments(text, forUser, customer7), id, true), allow)
		}, want: authv1.ApprovalState_APPROVAL_STATE_USED},
		{name: "nobody decides before the deadline", want: authv1.ApprovalState_APPROVAL_STATE_PENDING, after: 2*time.Minute - 200*time.Millisecond},
		{name: "it expires", until: func(_ *testing.T, h *house, _, _ string) {}, want: authv1.ApprovalState_APPROVAL_STATE_EXPIRED, after: time.Minute},
		{name: "it vanishes", until: func(_ *testing.T, h *house, _, _ string) {
			for key := range h.store.buckets[bus.CallApprovals.Name] {
				h.store.remove(bus.CallApprovals.Name, key)
			}
		}, reason: authv1.Reason_REASON_APPROVAL_UNKNOWN},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := newStore(t)
				edit := approving(t, func(c *auth.Config) {
					if tt.name == "it expires" {
						c.Approvals.PendingFor = time.Minute
					}
				})
				h, waits := open(t, st, edit), open(t, st, edit)
				text := h.roleKey(t, "admin")
				id := h.verdict(t, "before", withArguments(text, forUser, customer7), approval).GetApproval().GetId()
				begun := time.Now()
				type result struct {
					state authv1.ApprovalState
					err   error
				}
				got := make(chan result, 1)
				go func() {
					s, err := waits.await(t, id, 2*time.Minute)
					got <- result{s, err}
				}()
				synctest.Wait()
				if tt.until != nil {
					tt.until(t, h, text, id)
				}
				r := <-got
				if r.state != tt.want || time.Since(begun) != tt.after {
					t.Errorf("got %v after %v, want %v after %v", r.state, time.Since(begun), tt.want, tt.after)
				}
				if (r.err != nil) != (tt.reason != nil) || tt.reason != nil && !fault.Is(r.err, tt.reason) {
					t.Errorf("got error %v, want %v", r.err, tt.reason)
				}
			})
		})
	}
}

func TestUnknownApprovals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), approving(t, nil))
		if _, err := h.await(t, "a_01K00000000000000000000000", time.Minute); !fault.Is(err, authv1.Reason_REASON_APPROVAL_UNKNOWN) || status.Code(err) != codes.NotFound {
			t.Errorf("AwaitApproval: got %v", err)
		}
		if err := h.decide(t, "a_01K00000000000000000000000"); !fault.Is(err, authv1.Reason_REASON_APPROVAL_UNKNOWN) || status.Code(err) != codes.NotFound {
			t.Errorf("DecideApproval: got %v", err)
		}
		_, err := h.approvals.DecideApproval(t.Context(), &authv1.DecideApprovalRequest{Id: "a_x", Approve: true, DecidedBy: "user"})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("an operator who calls himself user: got %v", err)
		}
	})
}

func TestListApprovalsByPages(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), approving(t, func(c *auth.Config) { c.Approvals.MaxPending = 1000 }))
	text := h.roleKey(t, "admin")
	large := strings.Repeat("x", 15<<10)
	var want []string
	for n := range 150 { // together more than one page holds
		resp := h.verdict(t, "asked", withArguments(text, forOperator, fmt.Sprintf(`{"customer_id":%d,"reason":%q}`, n, large)), approval)
		want = append(want, resp.GetApproval().GetId())
	}
	for _, size := range []uint32{0, 40, 1000} {
		var got []string
		pages := 0
		for token := ""; ; pages++ {
			resp, err := h.approvals.ListApprovals(t.Context(), &authv1.ListApprovalsRequest{PageSize: size, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			if n := proto.Size(resp); n > 3<<20 {
				t.Errorf("a page has %d bytes", n)
			}
			for _, a := range resp.GetApprovals() {
				got = append(got, a.GetId())
			}
			if token = resp.GetNextPageToken(); token == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || pages == 0 {
			t.Errorf("size %d: %d pages, (-want +got):\n%s", size, pages+1, diff)
		}
	}
}

func TestOperatorsAloneApprove(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"sallyport"}, auth.Role.Allow[authv1.ApprovalService_ServiceDesc.ServiceName]); diff != "" {
		t.Errorf("who may use the ApprovalService (-want +got):\n%s", diff)
	}
}
