package folder_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

func TestUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a.log"), "x\n")
	if err := os.Chmod(filepath.Join(dir, "a.log"), 0); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir)
	if os.Geteuid() == 0 {
		// Files are open to root. Let this thread have the rights of
		// nobody for a while.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := syscall.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Setfsuid(0) }()
	}
	if file, err := f.Tail(only(t, f, "a.log"), 100); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Tail: got %v and error %v", file, err)
	}
}
