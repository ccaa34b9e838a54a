package customers

import (
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/demodb/dsn"
)

// Config says where the customers are.
type Config struct {
	// DSN is "sqlite:PATH" or "postgres://…" without a password. Empty means the
	// demo database in the state directory.
	DSN string `yaml:"dsn"`
	// DSNFile is a file with a DSN, which may hold a password.
	DSNFile string `yaml:"dsn_file"`
	// Timeout ends a call. A deletion that has not been committed by then is
	// rolled back.
	Timeout time.Duration `yaml:"timeout"`
	// Connections is how many calls run at once; others wait.
	Connections int `yaml:"connections"`
}

// DefaultConfig returns what works for the demo database.
func DefaultConfig() Config { return Config{Timeout: 8 * time.Second, Connections: 4} }

// Validate returns all mistakes at once.
func (c Config) Validate() error {
	errs := []error{dsn.Validate(c.DSN, c.DSNFile)}
	if c.Timeout < 10*time.Millisecond || c.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("timeout: %v is not between 10ms and 1m", c.Timeout))
	}
	if c.Connections < 1 || c.Connections > 64 {
		errs = append(errs, fmt.Errorf("connections: %d is not between 1 and 64", c.Connections))
	}
	return errors.Join(errs...)
}
