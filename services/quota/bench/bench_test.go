package main

import (
	"testing"
)

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
