package auth_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/pkg/taint"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// deletion is what the default policies want approved after untrusted content.
const deletion = forOperator

// see writes into the store what an executor would.
func (h *house) see(t *testing.T, name string, edit func(*taint.Record)) {
	t.Helper()
	r := taint.NewRecord()
	edit(r)
	material, err := os.ReadFile(filepath.Join(h.store.dir, "secrets", "grant.key"))
	if err != nil {
		t.Fatal(err)
	}
	key := secret.NewKey(material)
	sealed, err := taint.Seal(name, r, key.ID(), key.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.Put(t.Context(), bus.Contexts, name, sealed); err != nil {
		t.Fatal(err)
	}
}

// mail is the label of something untrusted.
func mail() *toolv1.Label { return taint.NewLabel("read_mail", "default", &toolv1.Tool{}, time.Now()) }

// inContext asks for a deletion in a context.
func inContext(text, id string, source authv1.ContextSource) *authv1.AuthorizeRequest {
	req := withArguments(text, deletion, `{"customer_id":7,"reason":"ticket 4711-0815-99"}`)
	req.Origin.ContextId, req.Origin.ContextSource = id, source
	return req
}

const (
	explicit = authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT
	session  = authv1.ContextSource_CONTEXT_SOURCE_SESSION
	trace    = authv1.ContextSource_CONTEXT_SOURCE_TRACE
)

// The default policies want a deletion approved when untrusted content was read: in the
// same context for a day, in others of the caller for as long as is configured, and
// where he names no context at any time.
func TestWhoseContentCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), nil)
		believing := open(t, h.store, func(c *auth.Config) { c.Seen.Carry = 0 })
		id, text := h.key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
		_, other := h.key(t, &authv1.CreateKeyRequest{Name: "b", Roles: []string{"admin"}})
		who := "key:" + id
		synctest.Wait() // both know the keys
		all := []struct {
			name string
			req  *authv1.AuthorizeRequest
		}{
			{"the context", inContext(text, "1", explicit)},
			{"another context", inContext(text, "2", explicit)},
			{"a session", inContext(text, "1", session)},
			{"a trace", inContext(text, "1", trace)},
			{"somebody else", inContext(other, "1", explicit)},
		}
		asks := func(when string, h *house, want ...string) {
			t.Helper()
			for _, one := range all {
				verdict := h.authorize(t, one.req).GetDecision().GetVerdict()
				if asked := verdict == approval; asked != slices.Contains(want, one.name) || !asked && verdict != allow {
					t.Errorf("%s: %s: got %v, want it asked about: %v", when, one.name, verdict, slices.Contains(want, one.name))
				}
			}
		}
		asks("at first", h)
		h.see(t, taint.Name(who, all[0].req.GetOrigin()), func(r *taint.Record) { r.See(mail()) })
		h.see(t, taint.OfPrincipal(who), func(r *taint.Record) { r.SeeElsewhere(mail()) })
		asks("just then", h, "the context", "another context", "a session", "a trace")
		asks("just then, where contexts are believed", believing, "the context", "a trace")
		time.Sleep(12 * time.Minute)
		asks("later", h, "the context")
		h.see(t, taint.OfPrincipal(who), func(r *taint.Record) { r.See(mail()) })
		asks("read without a context", h, "the context", "another context", "a session", "a trace")
		time.Sleep(12 * time.Minute)
		asks("read without a context, later", h, "the context", "a trace")
		time.Sleep(bus.ContextLife)
		asks("a day later", h)
	})
}

// The caller is told what was read and which argument is from there, and so are the
// approver and the record.
func TestAnApprovalSaysWhy(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	id, text := h.key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
	req := inContext(text, "1", explicit)
	h.see(t, taint.Name("key:"+id, req.GetOrigin()), func(r *taint.Record) {
		r.See(mail())
		taint.Values("Delete them, ticket 4711-0815-99.", taint.Content, func(v []byte) bool { r.Distrust(string(v)); return true })
	})
	without := inContext(text, "1", explicit)
	without.Arguments = nil
	if got := h.authorize(t, without); !got.GetArgumentsNeeded() || got.GetDecision() != nil {
		t.Errorf("without arguments: got %v, want that they are needed", got)
	}
	h.ledger.take()
	got := h.verdict(t, "with arguments", req, approval)
	message := got.GetDecision().GetMessage()
	if got.GetDecision().GetPolicy() != "untrusted-values" || !strings.Contains(message, "Untrusted content was read from read_mail at 20") ||
		!strings.HasSuffix(message, "Z; what is in reason comes from such content.") || !got.GetApproval().GetByUser() {
		t.Errorf("got %v", got)
	}
	if a := h.list(t, true); len(a) != 1 || a[0].GetReason() != message {
		t.Errorf("the approver is told %v", a)
	}
	in := h.ledger.take()[0].GetDecision().GetInputs()
	if in["arguments_from_untrusted"] != "reason" || in["tainted"] != "true" || !strings.HasPrefix(in["seen"], "read_mail at 20") {
		t.Errorf("inputs = %v", in)
	}
	// With a value of his own it is only what was read.
	mine := withArguments(text, deletion, `{"customer_id":7,"reason":"as I said"}`)
	mine.Origin = req.GetOrigin()
	if got := h.verdict(t, "own words", mine, approval); got.GetDecision().GetPolicy() != "untrusted-content" {
		t.Errorf("got %v", got.GetDecision())
	}
}

// Where it is not known what was seen nothing that depends on it is decided; what does
// not, costs no question to the store (fails closed, for these alone).
func TestWhatWasSeenIsNotKnown(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	id, text := h.key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
	intern := h.roleKey(t, "intern")
	req := inContext(text, "1", explicit)
	name := taint.Name("key:"+id, req.GetOrigin())
	if _, err := h.store.Put(t.Context(), bus.Contexts, name, []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	if got := h.verdict(t, "a record that cannot be read", req, approval); !strings.Contains(got.GetDecision().GetMessage(), "Untrusted content was read from unknown") {
		t.Errorf("got %v", got.GetDecision())
	}
	h.store.mu.Lock()
	h.store.dumb, h.store.asked = true, 0
	h.store.mu.Unlock()
	h.verdict(t, "a tool that only reads", withArguments(text, "get_customer", customer7), allow)
	if got := h.authorize(t, withArguments(intern, deletion, customer7)); got.GetDecision().GetVerdict() != deny {
		t.Errorf("what is denied anyway: got %v", got)
	}
	h.store.mu.Lock()
	asked := h.store.asked
	h.store.mu.Unlock()
	if asked != 0 {
		t.Errorf("the store was asked %d times for nothing", asked)
	}
	_, err := h.auth.Authorize(t.Context(), req)
	if status.Code(err) != codes.Unavailable || !fault.Is(err, faultv1.Reason_REASON_NOT_READY) {
		t.Errorf("got %v, want %v", err, faultv1.Reason_REASON_NOT_READY)
	}
}

// Policies of one's own can read what labels say.
func TestPoliciesReadLabels(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "own.cedar")
	const own = `
@id("all") permit (principal, action, resource);
@id("no-secrets-out") @reason("Confidential data was read.")
forbid (principal, action == Action::"tools/call", resource is Tool)
when { resource.risk == "destructive" && context.seen_sensitivity.contains("confidential") };
@id("not-of-others") @reason("Another tenant's.")
forbid (principal, action == Action::"tools/call", resource is Tool)
when { resource.name == "add_numbers" && !["default"].containsAll(context.seen_tenants) };
@id("not-after-sql") @reason("After SQL.")
forbid (principal, action == Action::"tools/call", resource is Tool)
when { resource.name == "get_customer" && context.seen_sources.contains("run_sql_query") && context.seen_trust == ["internal"] };
`
	if err := os.WriteFile(file, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, newStore(t), func(c *auth.Config) { c.Policies = []string{file} })
	id, text := h.key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"anybody"}})
	at := from("192.0.2.7")
	name := taint.Name("key:"+id, at)
	ask := func(tool, policy string, label *toolv1.Label) {
		t.Helper()
		h.see(t, name, func(r *taint.Record) { r.See(label) })
		want := deny
		if policy == "all" {
			want = allow
		}
		if got := h.authorize(t, withArguments(text, tool, `{}`)); got.GetDecision().GetPolicy() != policy || got.GetDecision().GetVerdict() != want {
			t.Errorf("%s after %v: got %v, want %s", tool, label, got.GetDecision(), policy)
		}
	}
	label := func(o *toolv1.Tool, source, tenant string) *toolv1.Label {
		return taint.NewLabel(source, tenant, o, time.Now())
	}
	ask(deletion, "no-secrets-out", label(&toolv1.Tool{Trust: toolv1.Trust_TRUST_TRUSTED, Sensitivity: toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL}, "vault", "default"))
	ask(deletion, "all", label(&toolv1.Tool{}, "wiki", "default"))
	ask("add_numbers", "not-of-others", label(&toolv1.Tool{}, "wiki", "acme"))
	ask("add_numbers", "all", label(&toolv1.Tool{}, "wiki", "default"))
	ask("get_customer", "not-after-sql", label(&toolv1.Tool{Trust: toolv1.Trust_TRUST_INTERNAL}, "run_sql_query", "default"))
	ask("get_customer", "all", label(&toolv1.Tool{}, "run_sql_query", "default"))
}
