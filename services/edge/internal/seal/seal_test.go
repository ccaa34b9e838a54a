package seal_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/edge/internal/seal"
)

func box(t testing.TB, k *seal.Keys, purpose string) *seal.Box {
	t.Helper()
	b, err := k.NewBox(purpose)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keyFile writes a key of 32 equal bytes.
func keyFile(t testing.TB, fill byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "edge.key")
	if err := os.WriteFile(file, bytes.Repeat([]byte{fill}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func load(t testing.TB, files ...string) *seal.Keys {
	t.Helper()
	k, err := seal.Load(files, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOpen(t *testing.T) {
	t.Parallel()
	a, b := keyFile(t, 'a'), keyFile(t, 'b')
	const purpose = "request-state"
	sealed := box(t, load(t, a), purpose).Seal([]byte("hello"))
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(i int) string {
		c := bytes.Clone(raw)
		c[i] ^= 1
		return base64.RawURLEncoding.EncodeToString(c)
	}
	tests := []struct {
		name string
		keys *seal.Keys
		purp string
		text string
		ok   bool
	}{
		{"the same key opens", load(t, a), purpose, sealed, true},
		{"a key that was replaced still opens", load(t, b, a), purpose, sealed, true},
		{"another key does not open", load(t, b), purpose, sealed, false},
		{"another purpose does not open", load(t, a), "session-id", sealed, false},
		{"a changed version does not open", load(t, a), purpose, flipped(0), false},
		{"a changed nonce does not open", load(t, a), purpose, flipped(1), false},
		{"a changed text does not open", load(t, a), purpose, flipped(13), false},
		{"a changed tag does not open", load(t, a), purpose, flipped(len(raw) - 1), false},
		{"what was cut does not open", load(t, a), purpose, sealed[:len(sealed)-4], false},
		{"what is too short to be sealed does not open", load(t, a), purpose, "AQ", false},
		{"nothing does not open", load(t, a), purpose, "", false},
		{"a line break does not open", load(t, a), purpose, sealed[:8] + "\n" + sealed[8:], false},
		{"padding does not open", load(t, a), purpose, sealed + "=", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plain, ok := box(t, tt.keys, tt.purp).Open(tt.text)
			if ok != tt.ok || ok && string(plain) != "hello" {
				t.Errorf("Open: got %q, %v, want %v", plain, ok, tt.ok)
			}
		})
	}
}

func TestSealedTextsDifferAndHaveTheLengthThatWasTold(t *testing.T) {
	t.Parallel()
	b := box(t, seal.Random(), "request-state")
	one, two := b.Seal([]byte("same")), b.Seal([]byte("same"))
	if one == two {
		t.Error("the same bytes are sealed to the same text")
	}
	if got := b.Length(len("same")); got != len(one) {
		t.Errorf("Length: got %d, want %d", got, len(one))
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secrets", "edge.key")
	if _, err := seal.Load([]string{file}, false, nil); err == nil {
		t.Error("a file that is not there was loaded")
	}
	var log bytes.Buffer
	made, err := seal.Load([]string{file}, true, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "edge.key") {
		t.Errorf("the log does not tell of the new file: %s", &log)
	}
	again, err := seal.Load([]string{file}, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := box(t, again, "p").Open(box(t, made, "p").Seal(nil)); !ok {
		t.Error("the file that was made is not the key that was used")
	}
	if _, err := seal.Load([]string{file, filepath.Join(t.TempDir(), "old.key")}, true, nil); err == nil {
		t.Error("a second file that is not there was made")
	}
	if _, err := seal.Load(nil, true, nil); err == nil {
		t.Error("no file at all was loaded")
	}
}

func TestDeriveGivesEachPurposeItsOwnKeys(t *testing.T) {
	t.Parallel()
	k := load(t, keyFile(t, 'a'), keyFile(t, 'b'))
	seen := make(map[string]bool)
	for _, purpose := range []string{"request-state", "session-id"} {
		keys := k.Derive(purpose)
		if len(keys) != 2 {
			t.Fatalf("Derive: got %d keys, want 2", len(keys))
		}
		for _, key := range keys {
			if len(key) != seal.KeySize || seen[string(key)] {
				t.Errorf("Derive(%q): a key of %d bytes, or not a new one", purpose, len(key))
			}
			seen[string(key)] = true
		}
	}
	if first := load(t, keyFile(t, 'a')).Derive("session-id"); !seen[string(first[0])] {
		t.Error("Derive: another process derives another key")
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	t.Parallel()
	k := load(t, keyFile(t, 'a'))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if text := fmt.Sprintf(verb, k); strings.Contains(text, "aaaa") || strings.Contains(text, "6161") || strings.Contains(text, "97 97") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

// Only what was sealed with the key opens, and from one text: the workers of the
// fuzzer share the key and seal nothing else.
func FuzzOpen(f *testing.F) {
	b := box(f, load(f, keyFile(f, 'a')), "request-state")
	sealed := b.Seal([]byte("state"))
	for _, seed := range []string{"", "AQ", sealed, sealed[1:], sealed + "A", "AQ" + strings.Repeat("A", 60), "\n", "====", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		plain, ok := b.Open(text)
		if !ok {
			return
		}
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || base64.RawURLEncoding.EncodeToString(raw) != text || string(plain) != "state" {
			t.Fatalf("Open(%q): got %q", text, plain)
		}
	})
}

// What is sealed opens to just that.
func FuzzSeal(f *testing.F) {
	b := box(f, seal.Random(), "request-state")
	f.Add([]byte{})
	f.Add([]byte("state"))
	f.Fuzz(func(t *testing.T, plain []byte) {
		text := b.Seal(plain)
		if got, ok := b.Open(text); !ok || !bytes.Equal(got, plain) || len(text) != b.Length(len(plain)) {
			t.Fatalf("Open(Seal(%x)): got %x, %v", plain, got, ok)
		}
	})
}
