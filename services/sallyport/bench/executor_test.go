package main

import (
	"strings"
	"testing"
	"time"
)

// All that is measured of the executor can be called, and the table has a line for each.
func TestMeasureExecutor(t *testing.T) {
	t.Parallel()
	var out, told strings.Builder
	if err := measureExecutor(t.Context(), options{rounds: 1, limit: 20 * time.Millisecond}, t.TempDir(), &out, &told); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"one bare gRPC call, both sides ", "the executor alone, default guards ", "the executor alone, default guards, untrusted content ", "the executor alone, no guards "} {
		if strings.Count(out.String(), line) != 1 {
			t.Errorf("no line for %q in\n%s", line, out.String())
		}
	}
}
