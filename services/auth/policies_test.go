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
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

const (
	openAll   = `@id("all") permit (principal, action, resource);`
	onlyBoss  = `@id("boss") permit (principal in Role::"boss", action, resource);`
	closedAll = openAll + "\n" + `@id("closed") @reason("Closed.") forbid (principal, action == Action::"tools/call", resource);`
)

// mayEcho reports whether a caller may call a tool that does nothing.
func (h *house) mayEcho(t *testing.T, text string) bool {
	t.Helper()
	resp, err := h.auth.Authorize(t.Context(), call(text, "echo", `{}`))
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetDecision().GetVerdict() == auditv1.Verdict_VERDICT_ALLOW
}

func (h *house) inUse(t *testing.T) *authv1.GetPoliciesResponse {
	t.Helper()
	resp, err := h.policies.GetPolicies(t.Context(), &authv1.GetPoliciesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (h *house) put(t *testing.T, text, base string) (*authv1.PutPoliciesResponse, error) {
	t.Helper()
	return h.policies.PutPolicies(t.Context(), &authv1.PutPoliciesRequest{
		Files: []*authv1.PolicyFile{{Name: "stored.cedar", Text: []byte(text)}}, BaseVersion: base, Author: "anna",
	})
}

// operations are the admin changes since the last time.
func (h *house) operations() (all []string) {
	for _, e := range h.ledger.take() {
		if a := e.GetAdmin(); a != nil && strings.HasPrefix(a.GetOperation(), "policy.") {
			all = append(all, a.GetOperation()+" "+a.GetDetails()["files"])
		}
	}
	return all
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	path := writePolicies(t, openAll)
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), func(c *auth.Config) { c.Policies = []string{path} })
		text := h.roleKey(t, "any")
		h.ledger.take()
		first := h.inUse(t)
		if !h.mayEcho(t, text) || first.GetSource() != authv1.PolicySource_POLICY_SOURCE_FILES || len(first.GetProblems()) > 0 {
			t.Fatalf("at the start: got %v", first)
		}

		write(t, path, openAll+"\n@id(\"x\") permit (principal, action, resource) when { context.hop < 3 };")
		time.Sleep(5 * time.Second)
		bad := h.inUse(t)
		if !h.mayEcho(t, text) || bad.GetVersion() != first.GetVersion() {
			t.Errorf("with a bad set: got %v, want the old one in use", bad)
		}
		if p := bad.GetProblems(); len(p) != 1 || p[0].GetFile() != "own.cedar" || p[0].GetLine() != 2 || !strings.Contains(p[0].GetMessage(), "hop") {
			t.Errorf("with a bad set: got problems %v", p)
		}
		if all := h.operations(); len(all) > 0 {
			t.Errorf("with a bad set: got %q recorded", all)
		}

		write(t, path, closedAll)
		time.Sleep(5 * time.Second)
		closed := h.inUse(t)
		if h.mayEcho(t, text) || closed.GetVersion() == first.GetVersion() || len(closed.GetProblems()) > 0 || !closed.GetLoadTime().AsTime().After(first.GetLoadTime().AsTime()) {
			t.Errorf("with a good set: got %v", closed)
		}
		if all := h.operations(); !slices.Equal(all, []string{"policy.reload own.cedar"}) {
			t.Errorf("with a good set: got %q recorded", all)
		}

		write(t, path, onlyBoss)
		time.Sleep(5 * time.Second)
		_, err := h.keys.CreateKey(t.Context(), &authv1.CreateKeyRequest{Name: "n", Roles: []string{"any"}})
		if !fault.Is(fault.Receive(err), authv1.Reason_REASON_ROLE) {
			t.Errorf("a role that the new set does not know: got %v", err)
		}
		h.roleKey(t, "boss")

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if gone := h.inUse(t); len(gone.GetProblems()) != 1 || len(gone.GetFiles()) != 1 {
			t.Errorf("without the file: got %v, want the old set and a problem", gone)
		}
		write(t, path, onlyBoss)
		time.Sleep(5 * time.Second)
		if back := h.inUse(t); len(back.GetProblems()) > 0 {
			t.Errorf("with the file back: got problems %v", back.GetProblems())
		}
		versions, _ := h.notices.ofPolicies()
		if len(versions) != 3 || len(slices.Compact(slices.Sorted(slices.Values(versions)))) != 3 {
			t.Errorf("got notices %q, want one of each of three sets", versions)
		}
		if n := strings.Count(h.log.String(), `"own.cedar:2:`); n != 1 {
			t.Errorf("the mistake is in the log %d times, want once", n)
		}
	})
}

// TestHalfOfAFileIsNotTaken reads files while somebody writes them.
func TestHalfOfAFileIsNotTaken(t *testing.T) {
	t.Parallel()
	path := writePolicies(t, closedAll)
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), func(c *auth.Config) { c.Policies = []string{path} })
		text := h.roleKey(t, "any")
		h.ledger.take()
		time.Sleep(500 * time.Millisecond)
		write(t, path, openAll) // the beginning of what there was
		time.Sleep(time.Second) // in which it is read once
		write(t, path, closedAll+"\n"+onlyBoss)
		time.Sleep(5 * time.Second)
		if all := h.operations(); h.mayEcho(t, text) || !slices.Equal(all, []string{"policy.reload own.cedar"}) {
			t.Errorf("got %q recorded, want that only the whole file was taken", all)
		}
	})
}

// TestConfigMapsChangeAtOnce makes the change that Kubernetes makes: a symbolic
// link to a folder is replaced.
func TestConfigMapsChangeAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for version, files := range map[string]map[string]string{
		"..1": {"a.cedar": openAll, "b.cedar": onlyBoss},
		"..2": {"a.cedar": onlyBoss, "b.cedar": `@id("c") @reason("No.") forbid (principal, action == Action::"tools/call", resource);`},
	} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			write(t, filepath.Join(dir, version, name), text)
		}
	}
	link := func(target string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	link("..1")
	for _, name := range []string{"a.cedar", "b.cedar"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newStore(t), func(c *auth.Config) { c.Policies = []string{dir} })
		text := h.roleKey(t, "boss")
		h.ledger.take()
		if !h.mayEcho(t, text) {
			t.Error("before: not allowed")
		}
		link("..2")
		time.Sleep(5 * time.Second)
		if h.mayEcho(t, text) {
			t.Error("after: allowed")
		}
		if all := h.operations(); !slices.Equal(all, []string{"policy.reload a.cedar b.cedar"}) {
			t.Errorf("got %q recorded", all)
		}
	})
}

func TestStoreWinsOverFiles(t *testing.T) {
	t.Parallel()
	path := writePolicies(t, openAll)
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		files := func(c *auth.Config) { c.Policies = []string{path} }
		one, other := open(t, st, files), open(t, st, files)
		text := one.roleKey(t, "any")
		synctest.Wait()
		one.ledger.take()
		base := one.inUse(t).GetVersion()

		for name, tt := range map[string]struct {
			text, base string
			reason     fault.Reason
		}{
			"a mistake":    {"\npermit (principal, action, resource);", "", authv1.Reason_REASON_POLICY},
			"another base": {closedAll, strings.Repeat("0", 64), authv1.Reason_REASON_POLICY_CHANGED},
			"nothing":      {"", "", authv1.Reason_REASON_POLICY},
		} {
			if _, err := one.put(t, tt.text, tt.base); !fault.Is(fault.Receive(err), tt.reason) {
				t.Errorf("%s: got %v, want %v", name, err, tt.reason)
			}
		}
		large := &authv1.PutPoliciesRequest{Files: []*authv1.PolicyFile{{Name: "a.cedar", Text: []byte(openAll)}}}
		for _, name := range []string{"b", "c", "d", "e"} {
			large.Files = append(large.Files, &authv1.PolicyFile{Name: name, Text: []byte(strings.Repeat("//\n", 80<<10))})
		}
		if _, err := one.policies.PutPolicies(t.Context(), large); !fault.Is(fault.Receive(err), authv1.Reason_REASON_POLICY) {
			t.Errorf("too much: got %v", err)
		}
		if all := one.operations(); len(all) > 0 || one.inUse(t).GetVersion() != base {
			t.Fatalf("refused: got %q recorded and %v in use", all, one.inUse(t))
		}

		resp, err := one.put(t, closedAll, base)
		if err != nil {
			t.Fatal(err)
		}
		if one.mayEcho(t, text) {
			t.Error("put, and does not hold at once")
		}
		if all := one.operations(); !slices.Equal(all, []string{"policy.put stored.cedar", "policy.reload stored.cedar"}) {
			t.Errorf("put: got %q recorded", all)
		}
		synctest.Wait()
		for name, h := range map[string]*house{"the one": one, "the other": other, "one that starts": open(t, st, files)} {
			got := h.inUse(t)
			if h.mayEcho(t, text) || got.GetVersion() != resp.GetVersion() || got.GetAuthor() != "anna" || got.GetSource() != authv1.PolicySource_POLICY_SOURCE_STORE {
				t.Errorf("put, %s: got %v", name, got)
			}
		}
		if all := other.operations(); !slices.Equal(all, []string{"policy.reload stored.cedar"}) {
			t.Errorf("put, the other: got %q recorded", all)
		}

		write(t, path, onlyBoss)
		time.Sleep(5 * time.Second)
		if got := other.inUse(t); got.GetVersion() != resp.GetVersion() {
			t.Errorf("changed files: got %v, want that the store wins", got)
		}
		remove := func(base string) (*authv1.RemovePoliciesResponse, error) {
			return other.policies.RemovePolicies(t.Context(), &authv1.RemovePoliciesRequest{BaseVersion: base, Author: "bert"})
		}
		if _, err := remove(base); status.Code(err) != codes.Aborted {
			t.Errorf("remove with an old base: got %v", err)
		}
		removed, err := remove(resp.GetVersion())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := one.inUse(t); got.GetVersion() != removed.GetVersion() || got.GetSource() != authv1.PolicySource_POLICY_SOURCE_FILES || !slices.Equal(got.GetRoles(), []string{"boss"}) {
			t.Errorf("removed: got %v, want the files as they are now", got)
		}
		if all := other.operations(); !slices.Equal(all, []string{"policy.remove ", "policy.reload own.cedar"}) {
			t.Errorf("removed: got %q recorded", all)
		}
		if versions, _ := one.notices.ofPolicies(); !slices.Equal(versions, []string{base, resp.GetVersion(), removed.GetVersion()}) {
			t.Errorf("got notices %q, want one of each set", versions)
		}
	})
}

func TestPutNeedsTheRecordAndTheStore(t *testing.T) {
	t.Parallel()
	st := newStore(t)
	h := open(t, st, nil)
	before := h.inUse(t).GetVersion()
	h.ledger.fill(true)
	if _, err := h.put(t, openAll, ""); !fault.Is(fault.Receive(err), authv1.Reason_REASON_STORE) {
		t.Errorf("without the audit stream: got %v", err)
	}
	h.ledger.fill(false)
	if _, err := st.Get(t.Context(), bus.Policies, "current"); err == nil {
		t.Error("without the audit stream: it was stored")
	}
	st.set(false, true)
	if _, err := h.put(t, openAll, ""); !fault.Is(fault.Receive(err), authv1.Reason_REASON_STORE) {
		t.Errorf("without the store: got %v", err)
	}
	st.set(false, false)
	if after := h.inUse(t).GetVersion(); after != before {
		t.Errorf("got %s in use, want %s", after, before)
	}
}

// TestOthersCannotMakePolicies writes to the store as somebody who has no pepper.
func TestOthersCannotMakePolicies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		h := open(t, st, nil)
		text := h.roleKey(t, "admin")
		put := func(value []byte) {
			t.Helper()
			if _, err := st.Put(t.Context(), bus.Policies, "current", value); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		older, err := h.put(t, openAll, "")
		if err != nil {
			t.Fatal(err)
		}
		old, err := st.Get(t.Context(), bus.Policies, "current")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		newer, err := h.put(t, closedAll, older.GetVersion())
		if err != nil {
			t.Fatal(err)
		}
		current, err := st.Get(t.Context(), bus.Policies, "current")
		if err != nil {
			t.Fatal(err)
		}
		forged := slices.Clone(current.Value)
		forged[len(forged)-1] ^= 1
		for name, do := range map[string]func(){
			"garbage":          func() { put([]byte("garbage")) },
			"another text":     func() { put(forged) },
			"an older one":     func() { put(old.Value) },
			"nothing any more": func() { st.remove("policies", "current"); synctest.Wait() },
		} {
			do()
			got := h.inUse(t)
			if got.GetVersion() != newer.GetVersion() || h.mayEcho(t, text) || len(got.GetProblems()) != 1 {
				t.Errorf("%s: got %v, want the same set and a problem", name, got)
			}
			put(current.Value)
			if got := h.inUse(t); len(got.GetProblems()) > 0 {
				t.Errorf("after %s: got problems %v", name, got.GetProblems())
			}
		}
	})
}

// TestNothingIsDecidedBeforePoliciesAreKnown checks that a process which starts
// does not take its files for the policies that may be in the store.
func TestNothingIsDecidedBeforePoliciesAreKnown(t *testing.T) {
	t.Parallel()
	refuses := func(t *testing.T, h *house, text string) {
		t.Helper()
		ctx := t.Context()
		for name, ask := range map[string]func() error{
			"Authorize": func() error { _, err := h.auth.Authorize(ctx, call(text, "echo", "{}")); return err },
			"FilterTools": func() error {
				_, err := h.auth.FilterTools(ctx, &authv1.FilterToolsRequest{Credential: bearer(text), Origin: from(""), Tools: []string{"echo"}})
				return err
			},
			"FilterTargets": func() error { _, err := h.auth.FilterTargets(ctx, filter(text, readResource, "a:b")); return err },
			"CreateKey": func() error {
				_, err := h.keys.CreateKey(ctx, &authv1.CreateKeyRequest{Name: "new", Roles: []string{"admin"}})
				return err
			},
			"Simulate": func() error { _, err := h.policies.Simulate(ctx, simulation("admin", "echo")); return err },
		} {
			if err := ask(); !fault.Is(fault.Receive(err), faultv1.Reason_REASON_NOT_READY) {
				t.Errorf("%s: got %v, want not ready", name, err)
			}
		}
		if h.service.PoliciesReady(ctx) == nil {
			t.Error("got ready")
		}
	}
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		text := open(t, st, nil).roleKey(t, "admin")
		st.withhold("policies", true)
		h := build(t, st, nil)
		synctest.Wait()
		refuses(t, h, text)
		if _, err := h.policies.GetPolicies(t.Context(), &authv1.GetPoliciesRequest{}); !fault.Is(fault.Receive(err), faultv1.Reason_REASON_NOT_READY) {
			t.Errorf("GetPolicies: got %v, want not ready", err)
		}
		if versions, _ := h.notices.ofPolicies(); len(versions) > 0 {
			t.Errorf("got notices %q", versions)
		}
		st.withhold("policies", false)
		synctest.Wait()
		if !h.mayEcho(t, text) || h.service.PoliciesReady(t.Context()) != nil {
			t.Error("not ready when the store has told all")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t)
		text := open(t, st, nil).roleKey(t, "admin")
		if _, err := st.Put(t.Context(), bus.Policies, "current", []byte("garbage")); err != nil {
			t.Fatal(err)
		}
		h := open(t, st, nil)
		refuses(t, h, text)
		if got := h.inUse(t); len(got.GetProblems()) != 1 || got.GetVersion() != "" {
			t.Errorf("got %v, want a problem and nothing in use", got)
		}
		if _, err := h.put(t, openAll, ""); err != nil {
			t.Fatal(err)
		}
		if !h.mayEcho(t, text) {
			t.Error("not allowed by what was put")
		}
	})
}
