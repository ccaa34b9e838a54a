package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

func TestKeyDoesNotPrint(t *testing.T) {
	t.Parallel()
	material := []byte("0123456789abcdef0123456789abcdef")
	key := secret.NewKey(material)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "key", key)
	encoded, err := json.Marshal(map[string]any{"key": key})
	if err != nil {
		t.Fatal(err)
	}
	seen := log.String() + string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		seen += fmt.Sprintf(verb, key) + fmt.Sprintf(verb, struct{ K secret.Key }{key})
	}
	for _, leak := range []string{"0123456789", "3031323334", "48 49 50", "MDEyMzQ1"} {
		if strings.Contains(seen, leak) {
			t.Errorf("the key shows %q in %s", leak, seen)
		}
	}
}

func TestLoadOrCreate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secrets", "some.key")
	keys := make([]secret.Key, 8)
	made := make([]bool, len(keys))
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], made[i], err = secret.LoadOrCreate(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	created := 0
	for i := range keys {
		if !bytes.Equal(keys[i].Bytes(), keys[0].Bytes()) {
			t.Errorf("process %d got another key than process 0", i)
		}
		if made[i] {
			created++
		}
	}
	if created != 1 || len(keys[0].Bytes()) != secret.Size {
		t.Errorf("got %d creators of %d bytes, want 1 of %d", created, len(keys[0].Bytes()), secret.Size)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, want 0600", info.Mode().Perm())
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("got %d files (%v), want only the key", len(left), err)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		size int // of the file; -1 is none
	}{
		{"a file that is not there", -1},
		{"an empty file", 0},
		{"a short key", secret.Size - 1},
		{"something large that cannot be a key", 1 << 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "key")
			if tt.size >= 0 {
				if err := os.WriteFile(path, make([]byte, tt.size), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := secret.Load(path); err == nil {
				t.Error("got no error")
			}
		})
	}
}
