package auth_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// The store can neither read what is asked nor give an answer.
func TestTheStoreKnowsNothingOfApprovals(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), approving(t, nil))
	text := h.roleKey(t, "admin")
	const secret = `{"customer_id":7,"reason":"a very private matter"}`
	h.verdict(t, "before", withArguments(text, forOperator, secret), approval)
	id := h.verdict(t, "approved", withArguments(text, forOperator, customer7), approval).GetApproval().GetId()
	h.say(t, id, true, "")
	entries := map[string]bus.Entry{}
	h.store.mu.Lock()
	for key, e := range h.store.buckets[bus.CallApprovals.Name] {
		entries[key] = e
		for _, text := range []string{"private", "customer", "deletions", "admin", "olga"} {
			if bytes.Contains(append([]byte(key), e.Value...), []byte(text)) {
				t.Errorf("the store holds %q in clear", text)
			}
		}
	}
	h.store.mu.Unlock()
	// The approved one in the place of the other, and the other in its place.
	var keys []string
	for key := range entries {
		keys = append(keys, key)
	}
	for i, key := range keys {
		if _, err := h.store.Put(t.Context(), bus.CallApprovals, key, entries[keys[1-i]].Value); err != nil {
			t.Fatal(err)
		}
	}
	h.verdict(t, "after entries were swapped", withArguments(text, forOperator, secret), approval)
	h.verdict(t, "after entries were swapped", withArguments(text, forOperator, customer7), approval)
}

// Whatever is away, nothing is allowed by an approval.
func TestApprovalsFailClosed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		disturb func(*house)
		want    fault.Reason
	}{
		{"the store is silent", func(h *house) { h.store.set(false, true) }, faultv1.Reason_REASON_NOT_READY},
		{"the record is full", func(h *house) { h.ledger.fill(true) }, auditv1.ErrorReason_ERROR_REASON_STREAM_UNAVAILABLE},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := open(t, newStore(t), approving(t, nil))
			text := h.roleKey(t, "admin")
			approved := h.verdict(t, "before", withArguments(text, forOperator, customer7), approval).GetApproval().GetId()
			h.say(t, approved, true, "")
			asked := h.verdict(t, "before", withArguments(text, forUser, customer7), approval).GetApproval().GetId()
			tt.disturb(h)
			for what, req := range map[string]*authv1.AuthorizeRequest{
				"what was approved": withArguments(text, forOperator, customer7), "what the user approves": answered(withArguments(text, forUser, customer7), asked, true),
				"what is new": withArguments(text, forUser, `{}`),
			} {
				if resp, err := h.auth.Authorize(t.Context(), req); !fault.Is(err, tt.want) || status.Code(err) != codes.Unavailable {
					t.Errorf("%s: got %v, %v; want %v", what, resp, err, tt.want)
				}
			}
			if err := h.decide(t, asked); !fault.Is(err, authv1.Reason_REASON_STORE) || status.Code(err) != codes.Unavailable {
				t.Errorf("DecideApproval: got %v, want %v", err, authv1.Reason_REASON_STORE)
			}
			h.ledger.fill(false)
			h.store.set(false, false)
			if is := h.list(t, true); len(is) < 1 || is[0].GetId() != asked {
				t.Errorf("got %v pending, want that nobody has decided", is)
			}
		})
	}
}

func TestNothingIsAskedBeforeApprovalsAreKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), approving(t, func(c *auth.Config) { c.StaleAfter = time.Minute }))
		text := h.roleKey(t, "admin")
		h.store.set(true, false) // no watch stands
		synctest.Wait()
		if _, err := h.auth.Authorize(t.Context(), withArguments(text, forUser, customer7)); !fault.Is(err, faultv1.Reason_REASON_NOT_READY) {
			t.Errorf("Authorize: got %v, want %v", err, faultv1.Reason_REASON_NOT_READY)
		}
		if _, err := h.approvals.ListApprovals(t.Context(), &authv1.ListApprovalsRequest{}); !fault.Is(err, authv1.Reason_REASON_STORE) {
			t.Errorf("ListApprovals: got %v, want %v", err, authv1.Reason_REASON_STORE)
		}
		if _, err := h.await(t, "a_x", time.Minute); !fault.Is(err, faultv1.Reason_REASON_NOT_READY) {
			t.Errorf("AwaitApproval: got %v, want %v", err, faultv1.Reason_REASON_NOT_READY)
		}
	})
}
