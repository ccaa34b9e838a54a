package main

import (
	"testing"
	"time"
)

func TestCPUIsReadFromProc(t *testing.T) {
	got, err := cpuIn([]byte("42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 8 0 1"))
	if want := 1750 * time.Millisecond; err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, broken := range []string{"", "42 (a) S 1 2", "42 (a) S 1 42 42 0 -1 4194560 1 2 3 4 x 25 0"} {
		if got, err := cpuIn([]byte(broken)); err == nil {
			t.Errorf("%q: got %v, want an error", broken, got)
		}
	}
}

func TestEveryRowHasItsServers(t *testing.T) {
	known := make(map[string]bool)
	for _, e := range estates {
		known[e.name] = true
	}
	for _, r := range rows {
		if !known[r.estate] {
			t.Errorf("row %q is of servers %q, which there are not", r.name, r.estate)
		}
	}
}
