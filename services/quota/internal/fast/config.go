package fast

import (
	"errors"
	"fmt"
	"time"
)

// Config is the "fast" part of the quota section.
type Config struct {
	// Every is how long what was admitted may wait before other nodes are told.
	Every time.Duration `yaml:"every"`
	// Silence is for how long another node may be silent until rules do what their
	// on_unavailable says.
	Silence time.Duration `yaml:"silence"`
}

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config {
	return Config{Every: 2 * time.Millisecond, Silence: 250 * time.Millisecond}
}

// beats is how many frames a node sends in a time of silence when it has nothing
// to tell.
const beats = 5

// Validate reports every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if c.Every < time.Millisecond || c.Every > 100*time.Millisecond {
		errs = append(errs, fmt.Errorf("fast.every: %v is not from 1ms to 100ms", c.Every))
	}
	if least := max(50*time.Millisecond, beats*c.Every); c.Silence < least || c.Silence > 10*time.Second {
		errs = append(errs, fmt.Errorf("fast.silence: %v is not from %v to 10s", c.Silence, least))
	}
	return errors.Join(errs...)
}
