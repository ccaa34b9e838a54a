package auth_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
)

// ask makes all four calls and returns their errors, of which all or none must
// be there.
func (h *house) ask(t *testing.T, text string) error {
	t.Helper()
	_, err1 := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text)})
	_, err2 := h.auth.Authorize(t.Context(), call(text, "echo", "{}"))
	_, err3 := h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{Credential: bearer(text), Origin: from(""), Tools: []string{"echo"}})
	_, err4 := h.auth.FilterTargets(t.Context(), filter(text, authv1.Action_ACTION_RESOURCES_READ, "file:///x"))
	if (err1 == nil) != (err2 == nil) || (err2 == nil) != (err3 == nil) || (err3 == nil) != (err4 == nil) {
		t.Errorf("got errors %v, %v, %v, %v; want all or none", err1, err2, err3, err4)
	}
	return err1
}

// wantReady checks that there are answers, or that there are none.
func (h *house) wantReady(t *testing.T, when, text string, want bool) {
	t.Helper()
	err := h.ask(t, text)
	if want && err != nil {
		t.Errorf("%s: got error %v, want an answer", when, err)
	}
	if !want && (!fault.Is(err, faultv1.Reason_REASON_NOT_READY) || status.Code(err) != codes.Unavailable) {
		t.Errorf("%s: got error %v, want %v", when, err, faultv1.Reason_REASON_NOT_READY)
	}
	if ready := h.service.KeysReady(t.Context()) == nil; ready != want {
		t.Errorf("%s: got ready %v, want %v", when, ready, want)
	}
}

// TestLostStore checks the rule that a revocation which may have been missed
// refuses everything (fails closed), but not in the first seconds.
func TestLostStore(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		down, dumb bool
	}{
		{name: "when all is lost", down: true, dumb: true},
		{name: "when the watch breaks and the store answers", down: true},
		{name: "when the watch stands and the store is silent", dumb: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := open(t, newStore(t), nil)
				text := h.roleKey(t, "admin")
				time.Sleep(time.Hour)
				h.wantReady(t, "after a quiet hour", text, true)
				h.store.set(tt.down, tt.dumb)
				synctest.Wait()
				h.wantReady(t, "at once", text, true)
				time.Sleep(3 * time.Second)
				h.wantReady(t, "after three seconds", text, true)
				time.Sleep(3 * time.Second)
				h.wantReady(t, "after six seconds", text, false)
				time.Sleep(time.Hour)
				h.wantReady(t, "after an hour", text, false)
				h.store.set(false, false)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				h.wantReady(t, "when it is back", text, true)
			})
		})
	}
}

func TestRevocationDuringABreakIsHeardAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		one := open(t, st, nil)
		id, text := one.key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
		other := open(t, st, nil)
		st.set(true, false) // no watch stands, and somebody else revokes
		synctest.Wait()
		if _, err := other.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
		st.set(false, false)
		synctest.Wait()
		resp, err := one.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text)})
		if err != nil || resp.GetPrincipal() != nil {
			t.Errorf("got %v, %v; want nothing", resp, err)
		}
	})
}

func TestNothingIsAnsweredBeforeTheKeysAreKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		st.set(true, true)
		h := build(t, st, nil)
		synctest.Wait()
		h.wantReady(t, "before the store was ever there", foreign, false)
		if _, err := h.keys.ListKeys(t.Context(), &authv1.ListKeysRequest{}); !fault.Is(err, faultv1.Reason_REASON_NOT_READY) {
			t.Errorf("ListKeys: got error %v, want %v", err, faultv1.Reason_REASON_NOT_READY)
		}
		st.set(false, false)
		synctest.Wait()
		h.wantReady(t, "with the store", foreign, true)
	})
}

func TestNoToolIsCalledWithoutACatalogue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		h := open(t, st, nil)
		text := h.roleKey(t, "admin")
		st.remove("catalogue", "current")
		synctest.Wait()
		if _, err := h.auth.Authorize(t.Context(), call(text, "echo", "{}")); !fault.Is(err, faultv1.Reason_REASON_NOT_READY) {
			t.Errorf("Authorize: got error %v, want %v", err, faultv1.Reason_REASON_NOT_READY)
		}
		if h.service.CatalogueReady(t.Context()) == nil {
			t.Error("the service says that it is ready")
		}
		list := call(text, "", "{}")
		list.Action = authv1.Action_ACTION_PROMPTS_LIST
		resp, err := h.auth.Authorize(t.Context(), list)
		if err != nil || resp.GetDecision().GetVerdict() != auditv1.Verdict_VERDICT_ALLOW {
			t.Errorf("what needs no tools: got %v, %v; want allow", resp, err)
		}
		targets, err := h.auth.FilterTargets(t.Context(), filter(text, authv1.Action_ACTION_PROMPTS_GET, "review"))
		if err != nil || len(targets.GetAllowed()) != 1 {
			t.Errorf("FilterTargets: got %v, %v; want the prompt", targets, err)
		}
	})
}

func TestCatalogueThatCannotBeReadChangesNothing(t *testing.T) {
	t.Parallel()
	twin := &executorv1.Catalogue_Entry{Name: "twin"}
	double := &executorv1.Catalogue{Entries: []*executorv1.Catalogue_Entry{twin, twin}}
	text, err := proto.Marshal(double)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), nil)
		key := h.roleKey(t, "admin")
		for _, bad := range [][]byte{text, []byte("\xff")} {
			if _, err := h.store.Put(t.Context(), bus.Catalogue, "current", bad); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			resp, err := h.auth.Authorize(t.Context(), call(key, "echo", "{}"))
			if err != nil || resp.GetDecision().GetVerdict() != auditv1.Verdict_VERDICT_ALLOW {
				t.Errorf("got %v, %v; want allow by the old catalogue", resp, err)
			}
		}
	})
}

func TestWhatCannotBeRecordedIsNotAllowed(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	text := h.roleKey(t, "admin")
	h.ledger.fill(true)
	resp, err := h.auth.Authorize(t.Context(), call(text, "echo", "{}"))
	if status.Code(err) != codes.Unavailable || !fault.Is(err, auditv1.ErrorReason_ERROR_REASON_STREAM_UNAVAILABLE) {
		t.Errorf("got %v, %v; want %v", resp, err, auditv1.ErrorReason_ERROR_REASON_STREAM_UNAVAILABLE)
	}
	// One who is refused anyway is refused in the same way.
	if resp, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(foreign)}); err != nil || resp.GetPrincipal() != nil {
		t.Errorf("got %v, %v; want nothing", resp, err)
	}
}

// TestTamperedRecordsAreNotGood checks that who can write to the store, and
// does not have the pepper, cannot give a key more than it has.
func TestTamperedRecordsAreNotGood(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(record string) string
	}{
		{"more roles", func(r string) string { return strings.Replace(r, `["intern"]`, `["admin"]`, 1) }},
		{"a longer life", func(r string) string { return strings.Replace(r, `"expires":"2000-`, `"expires":"2999-`, 1) }},
		{"another version", func(r string) string { return strings.Replace(r, `"v":1`, `"v":2`, 1) }},
		{"an unknown field", func(r string) string { return strings.Replace(r, `"v":1`, `"v":1,"w":1`, 1) }},
		{"no JSON", func(string) string { return "x" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := open(t, newStore(t), nil)
				id, text := h.key(t, &authv1.CreateKeyRequest{Name: "a", Owner: "<&>\u2028", Roles: []string{"intern"}})
				if err := h.ask(t, text); err != nil {
					t.Fatal(err)
				}
				h.store.rewrite(t, id, tt.edit)
				synctest.Wait()
				resp, err := h.auth.Authenticate(t.Context(), &authv1.AuthenticateRequest{Credential: bearer(text)})
				if err != nil || resp.GetPrincipal() != nil {
					t.Errorf("got %v, %v; want nothing", resp, err)
				}
			})
		})
	}
}
