package cluster

import (
	"errors"
	"fmt"
	"time"
)

// Config is the "cluster" part of the quota section.
type Config struct {
	// Enabled makes nodes that share the bus count as one. Without it a node
	// counts alone, and there must be one only. Where the file is silent it is true
	// for a process that dials a NATS server, as those do that may be several, and
	// false for one that has its own.
	Enabled bool `yaml:"enabled"`
	// Lease is how long a node decides without a word from NATS. Nobody decides
	// about what a node owned for up to 1.25 leases after it died. Where renewals take
	// more than a quarter of it, because the machine is starved or NATS is, leases are
	// up to four times as long.
	Lease time.Duration `yaml:"lease"`
	// Patience is how long a check waits for the owner of a count.
	Patience time.Duration `yaml:"patience"`
	// CopyEvery is how long what was admitted may wait for its copy, which is what
	// a crash can lose.
	CopyEvery time.Duration `yaml:"copy_every"`
	// Sync lets an answer wait for the copy: a crash loses nothing then, and
	// nothing is admitted while the copy cannot be made. What nobody who is left can
	// know counts as used up, until it would count no longer: if all nodes are killed
	// at once, or the only one is, that is each limit for its window. A clean stop of
	// all lets counts begin anew.
	Sync bool `yaml:"sync"`
}

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config {
	return Config{Lease: time.Second, Patience: 250 * time.Millisecond, CopyEvery: 2 * time.Millisecond}
}

// Validate reports every mistake at once.
func (c Config) Validate() error {
	var errs []error
	for _, span := range []struct {
		name            string
		is, least, most time.Duration
	}{
		{"lease", c.Lease, 100 * time.Millisecond, 30 * time.Second},
		{"patience", c.Patience, 10 * time.Millisecond, 5 * time.Second},
		{"copy_every", c.CopyEvery, 0, time.Second},
	} {
		if span.is < span.least || span.is > span.most {
			errs = append(errs, fmt.Errorf("cluster.%s: %v is not from %v to %v", span.name, span.is, span.least, span.most))
		}
	}
	return errors.Join(errs...)
}
