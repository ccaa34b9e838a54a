package guard

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/link"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/remote"
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
	// External is the guard that is another service.
	External External `yaml:"external"`
}

// External is the modes of the external guard.
type External struct {
	Modes `yaml:",inline"`
	// OnFailure is what happens to texts that it has not judged, unless it only
	// observes. Empty is Open for tools that only read, resources and prompts, else
	// Closed.
	OnFailure OnFailure `yaml:"on_failure"`
}

// OnFailure is what happens to texts that a guard has not judged.
type OnFailure string

// What happens, from the laxer.
const (
	Open   OnFailure = "open"   // they are passed on, and it is recorded
	Closed OnFailure = "closed" // they are not
)

var failures = []OnFailure{"", Open, Closed}

// names are the guards in the order in which they look at a text: each sees what
// those before it have left. The last is asked over the network.
var names = [...]string{"controls", "invisibles", "secrets", "personal", "links", "injection", "external"}

// external is the index of the last.
const external = len(names) - 1

// list returns the modes in the order of names.
func (s *Set) list() [len(names)]Modes {
	return [...]Modes{s.Controls, s.Invisibles, s.Secrets, s.Personal, s.Links, s.Injection, s.External.Modes}
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
	// External is where the external guard is.
	External remote.Config `yaml:"external"`
}

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config {
	return Config{External: remote.DefaultConfig(), Defaults: Set{
		Controls:   Modes{Arguments: Block, Results: Redact},
		Invisibles: Modes{Arguments: Observe, Results: Redact},
		Secrets:    Modes{Arguments: Observe, Results: Redact},
		Personal:   Modes{Arguments: Off, Results: Off},
		Links:      Modes{Arguments: Off, Results: Observe},
		Injection:  Modes{Arguments: Observe, Results: Observe},
		External:   External{Modes: Modes{Arguments: Off, Results: Off}},
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
	if err := c.External.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("external: %w", err))
	}
	if c.External.Address == "" && c.asksExternal() {
		errs = append(errs, errors.New("external.address: missing, and there are modes of the external guard that are not off"))
	}
	for i, h := range c.AllowedHosts {
		if err := link.CheckHost(h); err != nil {
			errs = append(errs, fmt.Errorf("allowed_hosts[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// asksExternal reports whether the external guard is asked anything.
func (c *Config) asksExternal() bool {
	asks := func(s Set) bool {
		return stricter(s.External.Arguments, Off) != Off || stricter(s.External.Results, Off) != Off
	}
	all := append(slices.Collect(maps.Values(c.Tools)), c.Defaults)
	return slices.ContainsFunc(append(all, slices.Collect(maps.Values(c.Roles))...), asks)
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
	if f := s.External.OnFailure; !slices.Contains(failures, f) {
		errs = append(errs, fmt.Errorf("%s.external.on_failure: %q must be open or closed", where, f))
	}
	return errors.Join(errs...)
}

// closed reports whether what the external guard has not judged is not passed on.
func (c *Config) closed(call Call) bool {
	said := c.Tools[call.Tool].External.OnFailure
	for _, role := range call.Roles {
		if f := c.Roles[role].External.OnFailure; slices.Index(failures, f) > slices.Index(failures, said) {
			said = f
		}
	}
	switch said = cmp.Or(said, c.Defaults.External.OnFailure); said {
	case "":
		return !call.ReadOnly
	case Open:
		return false
	}
	return true
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
