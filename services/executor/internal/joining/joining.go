// Package joining is what the operator says of a service that joins: by which
// names its tools and prompts are known here, and what its tools are to be taken
// for. It is applied to what the service says of itself, and wins.
package joining

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
)

// Config is one entry of the section "joining". Names in it are as the service
// itself has them.
type Config struct {
	// Prefix is put before the names of all tools and prompts: "ev_".
	Prefix string `yaml:"prefix"`
	// Aliases are new names of single tools or prompts. They take the place of
	// the name and the prefix.
	Aliases map[string]string `yaml:"aliases"`
	// Default holds for each tool: what it says takes the place of what the
	// service says, except that it makes no tool less risky than the service says
	// that it is.
	Default Options `yaml:"default"`
	// Tools are what is said of single tools, over Default and the service.
	Tools map[string]Options `yaml:"tools"`
}

// Options say what a tool is to be taken for. What is absent is as it was.
type Options struct {
	// Risk is read, write or destructive.
	Risk string `yaml:"risk"`
	// Idempotent tools may be called again when a replica did not answer.
	Idempotent *bool `yaml:"idempotent"`
	// Timeout of a call.
	Timeout time.Duration `yaml:"timeout"`
	// Cost of a call in quotas.
	Cost uint32 `yaml:"cost"`
	// Tags are words that policies may speak of.
	Tags []string `yaml:"tags"`
	// Sensitivity of results is public, internal or confidential.
	Sensitivity string `yaml:"sensitivity"`
	// Trust in the text of results is trusted, internal or untrusted.
	Trust string `yaml:"trust"`
	// Scopes that a token needs.
	Scopes []string `yaml:"scopes"`
	// Outbound tools send data out of the company's hands.
	Outbound *bool `yaml:"outbound"`
	// Uses say what a call is expected to use of units that quotas can count, by
	// unit. They take the place of all that the service says of units; {} is none.
	Uses map[string]Use `yaml:"uses"`
}

// Use is what a call uses of one unit, see sallyport.tool.v1.Use.
type Use struct {
	// Estimate is set aside before a call, and charged unless the service reports
	// what was used.
	Estimate uint64 `yaml:"estimate"`
	// Most is charged for a call that reports more.
	Most uint64 `yaml:"most"`
}

var (
	prefixes = regexp.MustCompile(`^[A-Za-z0-9_.-]{0,32}$`)
	tools    = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	prompts  = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
)

// Words for the values of options.
var (
	risks = map[string]toolv1.Risk{
		"": toolv1.Risk_RISK_UNSPECIFIED, "read": toolv1.Risk_RISK_READ,
		"write": toolv1.Risk_RISK_WRITE, "destructive": toolv1.Risk_RISK_DESTRUCTIVE,
	}
	sensitivities = map[string]toolv1.Sensitivity{
		"": toolv1.Sensitivity_SENSITIVITY_UNSPECIFIED, "public": toolv1.Sensitivity_SENSITIVITY_PUBLIC,
		"internal": toolv1.Sensitivity_SENSITIVITY_INTERNAL, "confidential": toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL,
	}
	trusts = map[string]toolv1.Trust{
		"": toolv1.Trust_TRUST_UNSPECIFIED, "trusted": toolv1.Trust_TRUST_TRUSTED,
		"internal": toolv1.Trust_TRUST_INTERNAL, "untrusted": toolv1.Trust_TRUST_UNTRUSTED,
	}
)

// Validate reports every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if !prefixes.MatchString(c.Prefix) {
		errs = append(errs, fmt.Errorf("prefix: %q must match %s", c.Prefix, prefixes))
	}
	taken := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(c.Aliases)) {
		alias := c.Aliases[name]
		if !tools.MatchString(alias) {
			errs = append(errs, fmt.Errorf("aliases.%s: %q must match %s", name, alias, tools))
		}
		if other, ok := taken[alias]; ok {
			errs = append(errs, fmt.Errorf("aliases.%s: %q is the alias of %s already", name, alias, other))
		}
		taken[alias] = name
	}
	if err := c.Default.validate(); err != nil {
		errs = append(errs, fmt.Errorf("default: %w", err))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Tools)) {
		if err := c.Tools[name].validate(); err != nil {
			errs = append(errs, fmt.Errorf("tools.%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// validate relies on the rules in the proto file for all that they say.
func (o Options) validate() error {
	var errs []error
	word := func(field, value string, known bool, words string) {
		if !known {
			errs = append(errs, fmt.Errorf("%s: %q must be one of %s", field, value, words))
		}
	}
	_, ok := risks[o.Risk]
	word("risk", o.Risk, ok, "read, write, destructive")
	_, ok = sensitivities[o.Sensitivity]
	word("sensitivity", o.Sensitivity, ok, "public, internal, confidential")
	_, ok = trusts[o.Trust]
	word("trust", o.Trust, ok, "trusted, internal, untrusted")
	out := &toolv1.Tool{}
	o.apply(out)
	check, err := rules.NewChecker(out.ProtoReflect().Descriptor())
	if err != nil {
		return err
	}
	broken, err := check.Check(out)
	if err != nil {
		return err
	}
	for _, b := range broken {
		errs = append(errs, fmt.Errorf("%s: %s", b.GetPointer(), b.GetMessage()))
	}
	return errors.Join(errs...)
}

// apply writes what is said over what was.
func (o Options) apply(out *toolv1.Tool) {
	if r := risks[o.Risk]; r != toolv1.Risk_RISK_UNSPECIFIED {
		out.Risk = r
	}
	if o.Idempotent != nil {
		out.Idempotent = *o.Idempotent
	}
	if o.Timeout != 0 {
		out.Timeout = durationpb.New(o.Timeout)
	}
	if o.Cost != 0 {
		out.Cost = o.Cost
	}
	if o.Tags != nil {
		out.Tags = slices.Clone(o.Tags)
	}
	if s := sensitivities[o.Sensitivity]; s != toolv1.Sensitivity_SENSITIVITY_UNSPECIFIED {
		out.Sensitivity = s
	}
	if t := trusts[o.Trust]; t != toolv1.Trust_TRUST_UNSPECIFIED {
		out.Trust = t
	}
	if o.Scopes != nil {
		out.Scopes = slices.Clone(o.Scopes)
	}
	if o.Outbound != nil {
		out.Outbound = *o.Outbound
	}
	if o.Uses != nil {
		out.Uses = nil
		for _, unit := range slices.Sorted(maps.Keys(o.Uses)) {
			out.Uses = append(out.Uses, &toolv1.Use{Unit: unit, Estimate: o.Uses[unit].Estimate, Most: o.Uses[unit].Most})
		}
	}
}

// Tool returns the name by which a tool of this name is known here.
func (c Config) Tool(name string) (string, error) { return c.rename(name, tools) }

// Prompt returns the name by which a prompt of this name is known here.
func (c Config) Prompt(name string) (string, error) { return c.rename(name, prompts) }

func (c Config) rename(name string, allowed *regexp.Regexp) (string, error) {
	known := c.Prefix + name
	if alias, ok := c.Aliases[name]; ok {
		known = alias
	}
	if !allowed.MatchString(known) {
		return "", fmt.Errorf("the name %q must match %s; aliases can give it another", known, allowed)
	}
	return known, nil
}

// Classify returns a definition with the options that the operator wants. name
// is the service's own name of the tool.
func (c Config) Classify(name string, d *providerv1.ToolDefinition) *providerv1.ToolDefinition {
	own, named := c.Tools[name]
	out := proto.CloneOf(d)
	if out.Options == nil {
		out.Options = &toolv1.Tool{}
	}
	said := out.Options.GetRisk()
	c.Default.apply(out.Options)
	if said > out.Options.GetRisk() {
		out.Options.Risk = said
	}
	if named {
		own.apply(out.Options)
	}
	return out
}

// Content returns for what resources and prompts of the service are to be taken: what
// the operator says of all its tools, or else nothing.
func (c Config) Content() *toolv1.Tool {
	return &toolv1.Tool{Trust: trusts[c.Default.Trust], Sensitivity: sensitivities[c.Default.Sensitivity]}
}

// Unused returns the names that are spoken of and that the service does not
// have, sorted.
func (c Config) Unused(tools, prompts map[string]bool) []string {
	unused := make(map[string]bool)
	for name := range c.Aliases {
		if !tools[name] && !prompts[name] {
			unused["aliases."+name] = true
		}
	}
	for name := range c.Tools {
		if !tools[name] {
			unused["tools."+name] = true
		}
	}
	return slices.Sorted(maps.Keys(unused))
}
