//go:build conformance

package conformance_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"go.yaml.in/yaml/v3"
)

const suite = "node_modules/@modelcontextprotocol/conformance"

// revision is one that the suite has requirements of.
type revision struct {
	name     string
	required int // how many scenarios there are, so that none is lost unseen
	// also holds scenarios that count here though the suite does not score them.
	also []string
}

func revisions() []revision {
	return []revision{
		{name: "2026-07-28", required: 37, also: []string{"http-header-validation", "http-custom-header-server-validation", "json-schema-2020-12"}},
		{name: "2025-11-25", required: 30, also: []string{"json-schema-2020-12"}},
	}
}

// demanded returns the scenarios that must pass: those that the suite's list for
// the revision requires of servers, and ours.
func (r revision) demanded(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(suite, "requirements", r.name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Server []string `yaml:"server"`
	}
	if err := yaml.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Server) != r.required {
		t.Errorf("%s: the suite requires %d scenarios, want %d", r.name, len(list.Server), r.required)
	}
	return append(list.Server, r.also...)
}

// check is a check of a scenario, as the suite writes it.
type check struct {
	ID           string `json:"id"`
	Description  string `json:"description"`
	Status       string `json:"status"`
	ErrorMessage string `json:"errorMessage"`
}

// outcome is what became of a scenario.
type outcome struct {
	passed, failed int
	warned         int      // about what a server should do
	complaints     []string // of failures, and of warnings
	ended          bool     // it has checks at all
}

// good reports whether something was checked and nothing failed.
func (o outcome) good() bool { return o.ended && o.failed == 0 && o.passed > 0 }

// scenarioFolder is how the suite names the folder of a scenario's results.
var scenarioFolder = regexp.MustCompile(`^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$`)

// read returns the outcomes in a folder of results, by scenario. A scenario that
// broke off has a folder, but no checks in it.
func read(t *testing.T, dir string) map[string]outcome {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	outcomes := make(map[string]outcome)
	for _, e := range entries {
		name := scenarioFolder.FindStringSubmatch(e.Name())
		if name == nil {
			t.Fatalf("the suite has written %q, which is no scenario's", e.Name())
		}
		var o outcome
		if b, err := os.ReadFile(filepath.Join(dir, e.Name(), "checks.json")); err == nil {
			var checks []check
			if err := json.Unmarshal(b, &checks); err != nil {
				t.Fatalf("%s: %v", e.Name(), err)
			}
			o.ended = true
			o.count(checks)
		}
		outcomes[name[1]] = o
	}
	return outcomes
}

func (o *outcome) count(checks []check) {
	for _, c := range checks {
		switch c.Status {
		case "SUCCESS":
			o.passed++
			continue
		case "FAILURE":
			o.failed++
		case "WARNING":
			o.warned++
		default: // what was seen, or skipped
			continue
		}
		o.complaints = append(o.complaints, c.Status+" "+c.ID+": "+c.Description+": "+c.ErrorMessage)
	}
}
