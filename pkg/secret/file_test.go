package secret_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

// A running process follows what its key file holds.
func TestFileIsFollowed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "some.key")
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, secret.Size) }
	write := func(content []byte, age time.Duration) func() error {
		return func() error {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				return err
			}
			then := time.Now().Add(-age)
			return os.Chtimes(path, then, then)
		}
	}
	replace := func(content []byte) func() error {
		return func() error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".new", content, 0o600); err != nil {
				return err
			}
			if err := os.Chtimes(path+".new", info.ModTime(), info.ModTime()); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}
	}
	f := secret.NewFile(path)
	steps := []struct {
		name    string
		do      func() error
		changed bool
		gone    bool
		bad     bool
		want    []byte
	}{
		{"there is none yet", nil, false, true, false, nil},
		{"it appears", write(key(1), time.Hour), true, false, false, key(1)},
		{"nothing happens", nil, false, false, false, key(1)},
		{"it is written again with the same key", write(key(1), time.Minute), false, false, false, key(1)},
		{"it is just being written", write(key(2)[:5], time.Second), false, false, true, key(1)},
		{"it is written to the end", write(key(2), time.Second), true, false, false, key(2)},
		{"it is written again within the same tick", write(key(3), time.Second), true, false, false, key(3)},
		{"it is replaced by one of the same time and size", replace(key(4)), true, false, false, key(4)},
		{"it is too large", write(make([]byte, 5000), 0), false, false, true, key(4)},
		{"it is removed", func() error { return os.Remove(path) }, true, true, false, nil},
		{"it is still gone", nil, false, true, false, nil},
		{"it is back", write(key(4), time.Hour), true, false, false, key(4)},
	}
	for _, s := range steps {
		if s.do != nil {
			if err := s.do(); err != nil {
				t.Fatal(err)
			}
		}
		changed, err := f.Refresh()
		if changed != s.changed || errors.Is(err, fs.ErrNotExist) != s.gone || (err != nil) != (s.bad || s.gone) {
			t.Errorf("%s: got %v, %v; want %v, gone %v, bad %v", s.name, changed, err, s.changed, s.gone, s.bad)
		}
		if !bytes.Equal(f.Key().Bytes(), s.want) {
			t.Errorf("%s: got %x, want %x", s.name, f.Key().Bytes(), s.want)
		}
	}
}
