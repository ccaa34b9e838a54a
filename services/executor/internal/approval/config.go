package approval

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Mode says what is held back of a service's definitions.
type Mode string

// The modes.
const (
	// ModeNothing uses every definition as it comes.
	ModeNothing Mode = "nothing"
	// ModeChanges approves a tool when it is first seen, and from then on holds
	// back every definition that differs.
	ModeChanges Mode = "changes"
	// ModeLoosened uses what is new at once, and what differs from before too,
	// unless it takes away what restricts the tool: a risk, a scope, a word that
	// policies may speak of; see [Loosened].
	ModeLoosened Mode = "loosened"
	// ModeAll holds back every definition that nobody has approved. What was
	// approved when it was first seen, under ModeChanges, remains so.
	ModeAll Mode = "all"
)

// Every is the name in a [Config] that stands for all providers which it does
// not name.
const Every = "*"

// Config is the section "hold" of the executor's: modes by the name of a
// service. A provider that is not named has [ModeChanges], or what [Every] has;
// a service with descriptors that is not named has [ModeLoosened]: such services
// are ours, as a rule, and their tools change with each release.
type Config map[string]Mode

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config { return Config{} }

// Mode returns what holds for a service: one that is a provider, or one with
// descriptors.
func (c Config) Mode(service string, provider bool) Mode {
	if m, ok := c[service]; ok {
		return m
	}
	if !provider {
		return ModeLoosened
	}
	if m, ok := c[Every]; ok {
		return m
	}
	return ModeChanges
}

var serviceName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Validate reports every mistake at once.
func (c Config) Validate() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if name != Every && !serviceName.MatchString(name) {
			errs = append(errs, fmt.Errorf("hold: %q is neither a service's name nor %q", name, Every))
		}
		switch c[name] {
		case ModeNothing, ModeLoosened, ModeChanges, ModeAll:
		default:
			errs = append(errs, fmt.Errorf("hold.%s: %q is not one of %s, %s, %s, %s", name, c[name], ModeNothing, ModeLoosened, ModeChanges, ModeAll))
		}
	}
	return errors.Join(errs...)
}
