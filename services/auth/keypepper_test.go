package auth_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// pepperFiles makes some peppers.
func pepperFiles(t *testing.T, n int) (paths []string) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		path := filepath.Join(dir, string('a'+rune(i)))
		if err := os.WriteFile(path, bytes.Repeat([]byte{byte(i + 1)}, 32), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func peppers(current, next string, old ...string) func(*auth.Config) {
	return func(c *auth.Config) { c.PepperFile, c.NextPepperFile, c.OldPepperFiles = current, next, old }
}

// old returns the names of keys that depend on an old pepper.
func (h *house) old(t *testing.T) (names []string) {
	t.Helper()
	list, err := h.keys.ListKeys(t.Context(), &authv1.ListKeysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list.GetKeys() {
		if len(k.GetOldPeppers()) > 0 {
			names = append(names, k.GetName())
		}
	}
	slices.Sort(names)
	return names
}

// works shows a key and then waits until what follows of it is done.
func (h *house) works(t *testing.T, text string) bool {
	t.Helper()
	good := authenticates(t, h, text)
	time.Sleep(time.Minute)
	synctest.Wait()
	return good
}

// TestPepperIsReplaced goes through a rotation as an operator does it.
func TestPepperIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := pepperFiles(t, 2)
		st := newStore(t)
		before := open(t, st, peppers(files[0], ""))
		_, used := before.key(t, &authv1.CreateKeyRequest{Name: "used", Roles: []string{"admin"}})
		_, idle := before.key(t, &authv1.CreateKeyRequest{Name: "idle", Roles: []string{"admin"}})
		rotated, first := before.key(t, &authv1.CreateKeyRequest{Name: "rotated", Roles: []string{"admin"}})
		dead, revoked := before.key(t, &authv1.CreateKeyRequest{Name: "revoked", Roles: []string{"admin"}})
		if _, err := before.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: dead}); err != nil {
			t.Fatal(err)
		}
		if got := before.old(t); got != nil {
			t.Errorf("before: %q depend on an old pepper", got)
		}

		h := open(t, st, peppers(files[1], "", files[0]))
		synctest.Wait()
		if diff := cmp.Diff([]string{"idle", "rotated", "used"}, h.old(t)); diff != "" {
			t.Errorf("records are sealed anew at once, but not the secrets (-want +got):\n%s", diff)
		}
		if !h.works(t, used) || authenticates(t, h, revoked) {
			t.Error("with the old pepper: the key is not good, or the revoked one is")
		}
		if diff := cmp.Diff([]string{"idle", "rotated"}, h.old(t)); diff != "" {
			t.Errorf("after a use (-want +got):\n%s", diff)
		}
		resp, err := h.keys.RotateKey(t.Context(), &authv1.RotateKeyRequest{Id: rotated, Overlap: durationpb.New(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"idle", "rotated"}, h.old(t)); diff != "" {
			t.Errorf("while the old secret of a rotated key is good (-want +got):\n%s", diff)
		}
		if !h.works(t, first) || !h.works(t, resp.GetSecret()) {
			t.Error("a secret of the rotated key is not good")
		}
		if diff := cmp.Diff([]string{"idle"}, h.old(t)); diff != "" {
			t.Errorf("after a use of the old secret (-want +got):\n%s", diff)
		}
		if got := h.log.String(); !strings.Contains(got, `keys=4`) || strings.Contains(got, "can go") {
			t.Errorf("the log does not warn of four keys, or says that there are none: %s", got)
		}
		var renewed []map[string]string
		for _, e := range h.ledger.take() {
			if a := e.GetAdmin(); a.GetOperation() == "key.repepper" {
				renewed = append(renewed, a.GetDetails())
			}
		}
		if want := []map[string]string{{"records": "4", "secrets": "0"}, {"records": "0", "secrets": "1"}, {"records": "0", "secrets": "1"}}; !cmp.Equal(want, renewed) {
			t.Errorf("recorded %v, want %v", renewed, want)
		}

		after := open(t, st, peppers(files[1], ""))
		if !authenticates(t, after, used) || !authenticates(t, after, first) || !authenticates(t, after, resp.GetSecret()) {
			t.Error("without the old pepper: a key that was used is not good")
		}
		if authenticates(t, after, idle) || authenticates(t, after, revoked) {
			t.Error("without the old pepper: a key is good that cannot be")
		}
		if diff := cmp.Diff([]string{"idle"}, after.old(t)); diff != "" {
			t.Errorf("what was lost is shown (-want +got):\n%s", diff)
		}

		if !h.works(t, idle) || len(h.old(t)) > 0 || !strings.Contains(h.log.String(), "old_pepper_files can go") {
			t.Errorf("at the end: %q depend on the old pepper, or the log does not say that it can go", h.old(t))
		}
	})
}

// TestProcessesGetANewPepperOneAfterTheOther checks that the one that still has the
// old pepper leaves alone what the other has hashed anew.
func TestProcessesGetANewPepperOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := pepperFiles(t, 2)
		st := newStore(t)
		early := open(t, st, peppers(files[0], files[1]))
		id, text := early.key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
		late := open(t, st, peppers(files[1], "", files[0]))
		if !late.works(t, text) || late.old(t) != nil {
			t.Error("the process with the new pepper has not taken the key over")
		}
		before := st.text()
		if !early.works(t, text) || early.old(t) != nil {
			t.Error("the process with the old pepper does not take the key")
		}
		if before != st.text() {
			t.Error("the process with the old pepper has written the key")
		}
		if _, err := early.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if authenticates(t, early, text) || authenticates(t, late, text) {
			t.Error("a revoked key is good")
		}
	})
}

func TestSecretIsHashedAnewWhenTheStoreIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := pepperFiles(t, 2)
		st := newStore(t)
		_, text := open(t, st, peppers(files[0], "")).key(t, &authv1.CreateKeyRequest{Name: "a", Roles: []string{"admin"}})
		h := open(t, st, peppers(files[1], "", files[0]))
		synctest.Wait()
		if !authenticates(t, h, text) {
			t.Fatal("the key is not good")
		}
		time.Sleep(58 * time.Second)
		st.freeze(true) // so that it fails, and is not merely not tried
		time.Sleep(4 * time.Second)
		st.freeze(false)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := h.old(t); got != nil {
			t.Errorf("%q depend on the old pepper, though it was shown", got)
		}
	})
}

func TestPoliciesOutliveTheirPepper(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := pepperFiles(t, 2)
		st := newStore(t)
		before := open(t, st, peppers(files[0], ""))
		if _, err := before.put(t, openAll, ""); err != nil {
			t.Fatal(err)
		}
		want := before.inUse(t)
		between := open(t, st, peppers(files[1], "", files[0]))
		synctest.Wait()
		if got := between.inUse(t); got.GetVersion() != want.GetVersion() {
			t.Errorf("with the old pepper: got %v, want %v", got, want)
		}
		if !strings.Contains(between.log.String(), "old_pepper_files can go") {
			t.Error("the log does not say that the old pepper can go")
		}
		after := open(t, st, peppers(files[1], ""))
		if got := after.inUse(t); got.GetVersion() != want.GetVersion() || got.GetSource() != authv1.PolicySource_POLICY_SOURCE_STORE {
			t.Errorf("without the old pepper: got %v, want %v", got, want)
		}
	})
}
