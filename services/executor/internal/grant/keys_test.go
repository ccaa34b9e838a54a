package grant_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/grant"
)

var other = bytes.Repeat([]byte{7}, 32)

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func idOf(key []byte) string { return secret.NewKey(key).ID() }

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two, broken := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "broken")
	write(t, one, key)
	write(t, two, other)
	write(t, broken, []byte("short"))
	files := grant.NewFiles([]string{one, two, broken, filepath.Join(dir, "missing")}, time.Minute, slog.New(slog.DiscardHandler))
	if err := files.Loaded(); err != nil {
		t.Error(err)
	}
	for _, want := range [][]byte{key, other} {
		if got := files.Key(idOf(want)); !bytes.Equal(got, want) {
			t.Errorf("Key(%q) = %x", idOf(want), got)
		}
	}
	if got := files.Key("deadbeef"); got != nil {
		t.Errorf("Key of nobody = %x", got)
	}
}

// A key can be replaced while all run: by a second file, or within one.
func TestKeysAreReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
		files := grant.NewFiles([]string{one, two}, time.Minute, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() { files.Follow(ctx); close(ended) }()
		if files.Loaded() == nil {
			t.Error("Loaded without a key")
		}
		steps := []struct {
			name       string
			do         func()
			wait       time.Duration
			key, other bool // is accepted
		}{
			{"the key appears", func() { write(t, one, key) }, 0, true, false},
			{"another is asked for often", func() { files.Key("deadbeef") }, 0, true, false},
			{"the other appears just then", func() { write(t, two, other) }, 0, true, true},
			{"the file of the key is removed", func() { _ = os.Remove(one) }, 3 * time.Second, true, true},
			{"grants can be left", nil, 50 * time.Second, true, true},
			{"no grant can be left", nil, 10 * time.Second, false, true},
			{"the key is back", func() { write(t, one, key) }, 0, true, true},
			{"the file of the other is being written", func() { write(t, two, other[:9]) }, time.Hour, true, true},
			{"it holds the key too", func() { write(t, two, key) }, 3 * time.Second, true, true},
			{"after the overlap", nil, time.Minute, true, false},
			{"the files change their places", func() { _ = os.Rename(two, one) }, time.Hour, true, false},
		}
		for _, s := range steps {
			if s.do != nil {
				s.do()
			}
			time.Sleep(s.wait) // of the bubble's clock
			synctest.Wait()
			if got := files.Key(idOf(key)) != nil; got != s.key {
				t.Errorf("%s: the key is accepted: %v, want %v", s.name, got, s.key)
			}
			if got := files.Key(idOf(other)) != nil; got != s.other {
				t.Errorf("%s: the other is accepted: %v, want %v", s.name, got, s.other)
			}
		}
		stop()
		<-ended
	})
}

func TestAnOverlapOfNothingEndsAKeyAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "grant.key")
	write(t, path, key)
	files := grant.NewFiles([]string{path}, 0, slog.New(slog.DiscardHandler))
	if files.Key(idOf(key)) == nil {
		t.Error("the key is not accepted")
	}
	write(t, path, other)
	if files.Key(idOf(other)) == nil || files.Key(idOf(key)) != nil {
		t.Error("the key that was replaced is accepted, or the new one is not")
	}
}
