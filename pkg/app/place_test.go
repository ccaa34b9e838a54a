package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-mcp/sallyport/pkg/app"
)

// placed is a mistake of a section.
type placed struct{ path string }

func (p placed) Error() string { return p.path + ": is wrong" }
func (p placed) Path() string  { return p.path }

// faulty is a section that always has mistakes.
type faulty struct {
	Rules []map[string]any `yaml:"rules"`
}

func (faulty) Validate() error {
	return errors.Join(placed{"rules[1].limit"}, errors.New("another"), placed{"rules[0].key"})
}

func TestMistakesOfSectionsHaveTheirPlace(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sallyport.yaml")
	if err := os.WriteFile(file, []byte("roles:\n  quota:\n    rules:\n      - id: a\n      - id: b\n        limit: fast\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := app.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "roles.quota: " + file + ":6:16: rules[1].limit: is wrong\nanother\n" + file + ":4:9: rules[0].key: is wrong"
	if err := cfg.Section("quota", &faulty{}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	// With values from elsewhere the lines are not those of the file.
	if cfg, err = app.Load(file, "drain=1s"); err != nil {
		t.Fatal(err)
	}
	want = "roles.quota: rules[1].limit: is wrong\nanother\nrules[0].key: is wrong"
	if err := cfg.Section("quota", &faulty{}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	var root yaml.Node
	if err := yaml.Unmarshal([]byte("a: &x\n  - b: 1\n  - c: [2, 3]\nd: *x\n"), &root); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][2]int{
		"a[1].c[1]": {3, 12},
		"a[1].z":    {3, 5},
		"a[9]":      {1, 4},
		"d[0].b":    {2, 8},
		"nothing":   {1, 1},
		"":          {1, 1},
		"a[x":       {1, 4},
	} {
		if line, column := app.Place(&root, path); line != want[0] || column != want[1] {
			t.Errorf("%q: got %d:%d, want %v", path, line, column, want)
		}
	}
}
