package folder_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/folder"
)

func TestList(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "secret.log")
	put(t, outside, "secret")
	dir := t.TempDir()
	for _, name := range []string{"b.log", "a.log", "syslog", ".hidden", "old.log.gz", "a b", "-x"} {
		put(t, filepath.Join(dir, name), "x\n")
	}
	for name, target := range map[string]string{"escape.log": outside, "current.log": "a.log", "root": "/"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir)
	l, err := f.List()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, info := range l.Files {
		got[info.Name] = "read"
	}
	for _, sk := range l.Skipped {
		got[sk.Name] = sk.Reason
	}
	want := map[string]string{
		"a.log": "read", "b.log": "read", "syslog": "read",
		"old.log.gz": "compressed", "a b": "its name is not plain", "-x": "its name is not plain",
		"escape.log": "a link", "current.log": "a link", "root": "a link", "pipe": "not a regular file",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
}

// What is put in the place of a file between listing and opening is not opened:
// neither a link out of the folder, nor a pipe that would block for ever.
func TestReplacedAfterListing(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "secret.log")
	put(t, outside, "secret\n")
	for name, replace := range map[string]func(path string) error{
		"a link out of the folder": func(path string) error { return os.Symlink(outside, path) },
		"a link within the folder": func(path string) error { return os.Symlink("b.log", path) },
		"a pipe":                   func(path string) error { return syscall.Mkfifo(path, 0o644) },
		"another file":             func(path string) error { return os.WriteFile(path, []byte("x"), 0o644) },
		"nothing":                  func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, filepath.Join(dir, "a.log"), "x\n")
			put(t, filepath.Join(dir, "b.log"), "x\n")
			f := open(t, dir)
			info := only(t, f, "a.log")
			// Renamed, so that its inode is not given to its successor.
			if err := os.Rename(filepath.Join(dir, "a.log"), filepath.Join(dir, "c.log")); err != nil {
				t.Fatal(err)
			}
			if err := replace(filepath.Join(dir, "a.log")); err != nil {
				t.Fatal(err)
			}
			if file, err := f.Tail(info, 100); err == nil {
				t.Errorf("Tail opened it")
				_ = file.Close()
			}
		})
	}
}

func TestOpenNothing(t *testing.T) {
	t.Parallel()
	if _, err := folder.Open(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: got error %v", err)
	}
}

func TestValid(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"app.log": true, "A-1_b.LOG": true, "0": true, strings.Repeat("a", 255): true,
		"": false, ".": false, "..": false, ".x": false, "-x": false, "_x": false, "a/b": false, "../a": false,
		"a\x00": false, "a\n": false, "ä": false, "a b": false, "a\\b": false, strings.Repeat("a", 256): false,
	} {
		if got := folder.Valid(name); got != want {
			t.Errorf("Valid(%q): got %v, want %v", name, got, want)
		}
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	files := []folder.Info{
		{Name: "a", Written: at}, {Name: "b", Written: at.Add(2)}, {Name: "c", Written: at}, {Name: "d", Written: at.Add(1)},
	}
	for n, want := range map[int]string{1: "b", 2: "b d", 3: "a b d", 4: "a b c d", 9: "a b c d"} {
		var names []string
		for _, f := range folder.Newest(files, n) {
			names = append(names, f.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("Newest(%d): got %s, want %s", n, got, want)
		}
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		sizes       []int64
		each, total int64
		want        []int64
	}{
		{"all fit", []int64{10, 20, 30}, 100, 100, []int64{10, 20, 30}},
		{"one is too large by itself", []int64{10, 200}, 100, 1000, []int64{10, 100}},
		{"the small leave room to the large", []int64{100, 10, 50}, 100, 100, []int64{45, 10, 45}},
		{"all alike", []int64{90, 90, 90}, 100, 90, []int64{30, 30, 30}},
		{"none", nil, 1, 1, []int64{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := make([]folder.Info, len(tt.sizes))
			for i, size := range tt.sizes {
				files[i].Size = size
			}
			if diff := cmp.Diff(tt.want, folder.Share(files, tt.each, tt.total)); diff != "" {
				t.Errorf("Share (-want +got):\n%s", diff)
			}
		})
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *folder.Folder {
	t.Helper()
	f, err := folder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// only returns what the listing says of a file.
func only(t *testing.T, f *folder.Folder, name string) folder.Info {
	t.Helper()
	l, err := f.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range l.Files {
		if info.Name == name {
			return info
		}
	}
	t.Fatalf("%s is not listed", name)
	return folder.Info{}
}

// lines reads a file of that content.
func lines(t *testing.T, ctx context.Context, content string, limit int64, maxLine int) (got []string, cut bool, err error) {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a.log"), content)
	f := open(t, dir)
	file, err := f.Tail(only(t, f, "a.log"), limit)
	if err != nil {
		return nil, false, err
	}
	t.Cleanup(func() { _ = file.Close() })
	err = file.Lines(ctx, maxLine, func(b []byte, cut bool) {
		if cut {
			b = append(b[:len(b):len(b)], '~')
		}
		got = append(got, string(b))
	})
	return got, file.Cut, err
}
