package demo_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/demo"
)

func TestSeed(t *testing.T) {
	t.Parallel()
	first, second := seed(t), seed(t)
	if diff := cmp.Diff(read(t, first), read(t, second)); diff != "" {
		t.Errorf("seeding again gives other files:\n%s", diff)
	}
	lines := 0
	var names []string
	for name, content := range read(t, first) {
		names = append(names, name)
		lines += strings.Count(content, "\n")
		info, err := os.Stat(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		if want := time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC); !info.ModTime().Equal(want) {
			t.Errorf("%s is dated %v, want %v", name, info.ModTime(), want)
		}
	}
	if len(names) != 4 || lines < 1900 || lines > 2100 {
		t.Errorf("got %d lines in %v, want about 2000 in four files", lines, names)
	}
}

// What is there stays as it is.
func TestSeedAgain(t *testing.T) {
	t.Parallel()
	dir := seed(t)
	if err := os.Remove(filepath.Join(dir, "app.log")); err != nil {
		t.Fatal(err)
	}
	before := read(t, dir)
	if err := demo.Seed(dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, read(t, dir)); diff != "" {
		t.Errorf("Seed changed a folder that was there:\n%s", diff)
	}
}

// Nothing is left beside the folder, whether it could be made or not.
func TestSeedLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := seed(t)
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v and error %v beside the folder", entries, err)
	}
	if err := demo.Seed(filepath.Join(dir, "app.log", "x")); err == nil {
		t.Error("Seed makes a folder in a file")
	}
}

func seed(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state", "demo-logs")
	if err := demo.Seed(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}
