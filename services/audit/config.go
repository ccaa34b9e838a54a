package audit

import (
	"errors"
	"fmt"
	"time"
)

// Config is the section roles.audit of the configuration.
type Config struct {
	// Dir is the folder of the index; <state_dir>/audit when empty. It holds
	// nothing that the stream does not hold, and may be deleted while the
	// service is down.
	Dir string `yaml:"dir"`
	// CommitInterval is the shortest time between two transactions of the index.
	// An event that comes after a pause is indexed at once; under load this is
	// how long one waits, and the longer it is the less an event costs.
	CommitInterval time.Duration `yaml:"commit_interval"`
}

// DefaultConfig returns the configuration when nothing is said.
func DefaultConfig() Config {
	return Config{CommitInterval: 25 * time.Millisecond}
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.CommitInterval < 0 || c.CommitInterval > 10*time.Second {
		errs = append(errs, fmt.Errorf("commit_interval: %v is not between 0s and 10s", c.CommitInterval))
	}
	return errors.Join(errs...)
}
