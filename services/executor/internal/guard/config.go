package guard

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/link"
)

// Mode is what is done about what a guard finds.
type Mode string

// Modes, from the laxest to the strictest. The empty mode says nothing.
const (
	Off     Mode = "off"     // the guard does not look
	Observe Mode = "observe" // it is recorded
	Redact  Mode = "redact"  // it is replaced in results; in arguments it is as Block
	Block   Mode = "block"   // the call is refused, or its result is not passed on
)

var modes = []Mode{"", Off, Observe, Redact, Block}

func stricter(a, b Mode) Mode {
	if slices.Index(modes, a) < slices.Index(modes, b) {
		return b
	}
	return a
}

// Modes are those of one guard.
type Modes struct {
	Arguments Mode `yaml:"arguments"`
	Results   Mode `yaml:"results"`
}

// Set is the modes of all guards.
type Set struct {
	Controls   Modes `yaml:"controls"`
	Invisibles Modes `yaml:"invisibles"`
	Secrets    Modes `yaml:"secrets"`
	Personal   Modes `yaml:"personal"`
	Links      Modes `yaml:"links"`
	Injection  Modes `yaml:"injection"`
}

// names are the guards in the order in which they look at a text: each sees what
// those before it have left.
var names = [...]string{"controls", "invisibles", "secrets", "personal", "links", "injection"}

// list returns the modes in the order of names.
func (s *Set) list() [len(names)]Modes {
	return [...]Modes{s.Controls, s.Invisibles, s.Secrets, s.Personal, s.Links, s.Injection}
}

// Config is the section "guards" of the executor's configuration.
type Config struct {
	// Defaults hold where neither the tool nor a role of the caller says anything.
	Defaults Set `yaml:"defaults"`
	// Tools are by name.
	Tools map[string]Set `yaml:"tools"`
	// Roles are those of the caller. Where his roles and the tool say different
	// things the strictest holds.
	Roles map[string]Set `yaml:"roles"`
	// AllowedHosts are the hosts to which links and images in results may carry
	// data: "docs.example.com", or "*.example.com" for all below.
	AllowedHosts []string `yaml:"allowed_hosts"`
}

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config {
	return Config{Defaults: Set{
		Controls:   Modes{Arguments: Block, Results: Redact},
		Invisibles: Modes{Arguments: Observe, Results: Redact},
		Secrets:    Modes{Arguments: Observe, Results: Redact},
		Personal:   Modes{Arguments: Off, Results: Off},
		Links:      Modes{Arguments: Off, Results: Observe},
		Injection:  Modes{Arguments: Observe, Results: Observe},
	}}
}

var toolName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// Validate reports every mistake at once.
func (c *Config) Validate() error {
	errs := []error{c.Defaults.validate("defaults", false)}
	for _, tool := range slices.Sorted(maps.Keys(c.Tools)) {
		if !toolName.MatchString(tool) {
			errs = append(errs, fmt.Errorf("tools: %q is not a name that a tool can have: it must match %s", tool, toolName))
		}
		set := c.Tools[tool]
		errs = append(errs, set.validate("tools."+tool, true))
	}
	for _, role := range slices.Sorted(maps.Keys(c.Roles)) {
		if role == "" || len(role) > 64 {
			errs = append(errs, fmt.Errorf("roles: %q must be 1 to 64 characters", role))
		}
		set := c.Roles[role]
		errs = append(errs, set.validate("roles."+role, true))
	}
	for i, h := range c.AllowedHosts {
		if err := link.CheckHost(h); err != nil {
			errs = append(errs, fmt.Errorf("allowed_hosts[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// validate checks that all modes are known. In a tool's or a role's set there may
// be none; in the defaults there must be one.
func (s *Set) validate(where string, optional bool) error {
	var errs []error
	for i, m := range s.list() {
		for side, mode := range map[string]Mode{"arguments": m.Arguments, "results": m.Results} {
			if !slices.Contains(modes, mode) || mode == "" && !optional {
				errs = append(errs, fmt.Errorf("%s.%s.%s: %q must be off, observe, redact or block", where, names[i], side, mode))
			}
		}
		if names[i] == "injection" && (m.Arguments == Redact || m.Results == Redact) {
			errs = append(errs, fmt.Errorf("%s.injection: a score cannot be redacted; it must be off, observe or block", where))
		}
	}
	return errors.Join(errs...)
}

// modes returns what holds for a call.
func (c *Config) modes(tool string, roles []string) [len(names)]Modes {
	all := c.Defaults.list()
	if len(c.Tools) == 0 && len(c.Roles) == 0 {
		return all
	}
	var said [len(names)]Modes
	add := func(s Set) {
		for i, m := range s.list() {
			said[i].Arguments = stricter(said[i].Arguments, m.Arguments)
			said[i].Results = stricter(said[i].Results, m.Results)
		}
	}
	add(c.Tools[tool])
	for _, role := range roles {
		add(c.Roles[role])
	}
	for i, m := range said {
		if m.Arguments != "" {
			all[i].Arguments = m.Arguments
		}
		if m.Results != "" {
			all[i].Results = m.Results
		}
	}
	return all
}
