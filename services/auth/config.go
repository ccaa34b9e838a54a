package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth"
)

// Config is the "auth" section of the configuration file.
type Config struct {
	// Env is the environment that keys are for; it is in every key, and a key
	// of another environment is not good here.
	Env string `yaml:"env"`
	// PepperFile holds the key under which secrets are hashed, at least 32
	// bytes. When empty, a file in the state folder is used, and made if there
	// is none. Several processes of this role need the same one.
	PepperFile string `yaml:"pepper_file"`
	// OldPepperFiles hold peppers that PepperFile has replaced. What was hashed
	// with them is good, and is hashed anew with the current one where it can be: a
	// secret when it is next shown.
	OldPepperFiles []string `yaml:"old_pepper_files"`
	// NextPepperFile holds the pepper that other processes of this role use, or
	// soon will, while this one still has the old one: what was hashed with it is
	// good and stays as it is.
	NextPepperFile string `yaml:"next_pepper_file"`
	// GrantKeyFile holds the key that is shared with the executor, at least 32
	// bytes. When empty, secrets/grant.key in the state folder is used, and made
	// if there is none.
	GrantKeyFile string `yaml:"grant_key_file"`
	// GrantLife is how long a grant can be used.
	GrantLife time.Duration `yaml:"grant_life"`
	// ValidFor is how long the edge may remember an authentication.
	ValidFor time.Duration `yaml:"valid_for"`
	// StaleAfter is how long keys are accepted without a sign of life from the
	// store; after that a revocation could have been missed, and all is refused.
	StaleAfter time.Duration `yaml:"stale_after"`
	// DefaultExpiry is the life of a key for which none was asked for.
	DefaultExpiry time.Duration `yaml:"default_expiry"`
	// MaxExpiry is the longest life that can be asked for.
	MaxExpiry time.Duration `yaml:"max_expiry"`
	// Policies are files, or folders with files called *.cedar. When empty, the
	// default set holds.
	Policies []string `yaml:"policies"`
	// BruteForce limits failed authentications.
	BruteForce BruteForce `yaml:"brute_force"`
	// Approvals is about calls that policies want approved.
	Approvals ApprovalConfig `yaml:"approvals"`
	// Seen is about what contexts have seen.
	Seen SeenConfig `yaml:"seen"`
	// OAuth says whose access tokens are good.
	OAuth oauth.Config `yaml:"oauth"`
	// Machines are callers known by the SPIFFE id of their TLS certificate.
	Machines []Machine `yaml:"machines"`
}

// ApprovalConfig says how long approvals of calls are good. What auth is asked
// to approve is kept encrypted, under a key that is derived from the grant key.
type ApprovalConfig struct {
	// PendingFor is how long an approval can be given.
	PendingFor time.Duration `yaml:"pending_for"`
	// UsableFor is how long the call can be made after it was approved. A denial
	// holds as long.
	UsableFor time.Duration `yaml:"usable_for"`
	// MaxPending is how many calls of one principal can wait for approval at once;
	// more are denied. Several processes that are asked in the same instant may let
	// some more through.
	MaxPending int `yaml:"max_pending"`
}

const day = 24 * time.Hour

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config {
	return Config{
		Env:           "dev",
		GrantLife:     30 * time.Second,
		ValidFor:      5 * time.Second,
		StaleAfter:    5 * time.Second,
		DefaultExpiry: 90 * day,
		MaxExpiry:     365 * day,
		BruteForce:    DefaultBruteForce(),
		OAuth:         oauth.DefaultConfig(),
		Approvals:     ApprovalConfig{PendingFor: 15 * time.Minute, UsableFor: 5 * time.Minute, MaxPending: 20},
		Seen:          SeenConfig{Carry: 10 * time.Minute},
	}
}

// Validate reports every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if !apikey.ValidEnv(c.Env) {
		errs = append(errs, fmt.Errorf("env: %q is not 1 to 16 lower-case letters and digits", c.Env))
	}
	within := func(name string, d, least, most time.Duration) {
		if d < least || d > most {
			errs = append(errs, fmt.Errorf("%s: %v is not between %v and %v", name, d, least, most))
		}
	}
	within("grant_life", c.GrantLife, time.Second, bus.GrantLife)
	within("valid_for", c.ValidFor, 0, time.Minute)
	within("stale_after", c.StaleAfter, time.Second, 10*time.Minute)
	within("max_expiry", c.MaxExpiry, time.Minute, 3650*day)
	within("default_expiry", c.DefaultExpiry, time.Minute, c.MaxExpiry)
	within("approvals.pending_for", c.Approvals.PendingFor, time.Second, day)
	within("approvals.usable_for", c.Approvals.UsableFor, time.Second, day)
	within("seen.carry", c.Seen.Carry, 0, bus.ContextLife)
	if n := c.Approvals.MaxPending; n < 1 || n > 1000 {
		errs = append(errs, fmt.Errorf("approvals.max_pending: %d is not between 1 and 1000", n))
	}
	for i, path := range c.Policies {
		if path == "" {
			errs = append(errs, fmt.Errorf("policies[%d]: empty", i))
		}
	}
	errs = append(errs, c.validatePeppers(), c.BruteForce.validate(), c.validateMachines())
	if err := c.OAuth.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("oauth: %w", err))
	}
	return errors.Join(errs...)
}
