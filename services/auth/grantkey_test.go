package auth_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// The key that grants are signed with is the one that its file holds, or held
// last.
func TestTheGrantKeyIsFollowed(t *testing.T) {
	t.Parallel()
	first, second := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 40)
	for name, configured := range map[string]bool{"a file that is named": true, "the one in the state folder": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := newStore(t)
				path := filepath.Join(st.dir, "secrets", "grant.key")
				if configured {
					path = filepath.Join(t.TempDir(), "some.key")
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				write := func(content []byte) func() error {
					return func() error { return os.WriteFile(path, content, 0o600) }
				}
				if err := write(first)(); err != nil {
					t.Fatal(err)
				}
				h := open(t, st, func(c *auth.Config) {
					if configured {
						c.GrantKeyFile = path
					}
				})
				text := h.roleKey(t, "admin")
				for _, s := range []struct {
					name string
					do   func() error
					want []byte
				}{
					{"at the start", func() error { return nil }, first},
					{"while another is being written", write(second[:7]), first},
					{"when it is written", write(second), second},
					{"when the file is gone", func() error { return os.Remove(path) }, second},
					{"when the first is back", write(first), first},
				} {
					if err := s.do(); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Second)
					synctest.Wait()
					resp, err := h.auth.Authorize(t.Context(), call(text, "echo", "{}"))
					if err != nil || len(resp.GetGrant()) < 10 {
						t.Fatalf("%s: got %v, %v", s.name, resp, err)
					}
					if got, want := string(resp.GetGrant()[2:10]), secret.NewKey(s.want).ID(); got != want {
						t.Errorf("%s: signed with key %s, want %s", s.name, got, want)
					}
				}
			})
		})
	}
}
