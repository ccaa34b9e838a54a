package main

import (
	"fmt"
	"slices"
	"strings"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// Words of policies for what a context has seen.
var (
	trustWords = map[string]toolv1.Trust{
		"": toolv1.Trust_TRUST_UNTRUSTED, "trusted": toolv1.Trust_TRUST_TRUSTED, "internal": toolv1.Trust_TRUST_INTERNAL, "untrusted": toolv1.Trust_TRUST_UNTRUSTED,
	}
	sensitivityWords = map[string]toolv1.Sensitivity{
		"": toolv1.Sensitivity_SENSITIVITY_INTERNAL, "public": toolv1.Sensitivity_SENSITIVITY_PUBLIC,
		"internal": toolv1.Sensitivity_SENSITIVITY_INTERNAL, "confidential": toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL,
	}
)

// suiteLabel is something that a context has seen before.
type suiteLabel struct {
	Source      string `yaml:"source"`
	Trust       string `yaml:"trust"`
	Sensitivity string `yaml:"sensitivity"`
	Tenant      string `yaml:"tenant"`
}

// These are what the contract has room for.
const (
	maxSeen     = 72
	maxSuspects = 64
)

func (l suiteLabel) problems() (all []string) {
	if l.Source == "" {
		all = append(all, "seen: a source is missing: the name of a tool")
	}
	if _, ok := trustWords[l.Trust]; !ok {
		all = append(all, fmt.Sprintf("seen: trust: %q is not trusted, internal or untrusted", l.Trust))
	}
	if _, ok := sensitivityWords[l.Sensitivity]; !ok {
		all = append(all, fmt.Sprintf("seen: sensitivity: %q is not public, internal or confidential", l.Sensitivity))
	}
	return all
}

func (l suiteLabel) label() *toolv1.Label {
	tenant := l.Tenant
	if tenant == "" {
		tenant = "default"
	}
	return &toolv1.Label{Source: l.Source, Trust: trustWords[l.Trust], Sensitivity: sensitivityWords[l.Sensitivity], Tenant: tenant}
}

// seen is what the context had seen then, as far as it is known: nil where none of it
// is on record. Labels are made up so that policies read of them what they read then.
func (r recall) seen() *authv1.Seen {
	in := r.event.GetDecision().GetInputs()
	words := func(name string) []string {
		return strings.FieldsFunc(in[name], func(c rune) bool { return c == ',' || c == ' ' })
	}
	recorded := false
	for name := range in {
		recorded = recorded || name == "tainted" || name == "arguments_from_untrusted" || strings.HasPrefix(name, "seen")
	}
	if !recorded {
		return nil
	}
	sources, trust, sensitivity, tenants := words("seen_sources"), words("seen_trust"), words("seen_sensitivity"), words("seen_tenants")
	tainted := in["tainted"] == "true"
	otherwise := "untrusted"
	if in["tainted"] == "false" {
		otherwise = "internal"
	}
	seen := &authv1.Seen{Arguments: words("arguments_from_untrusted")}
	count := max(len(sources), len(trust), len(sensitivity), len(tenants))
	if tainted {
		count = max(count, 1)
	}
	of := func(list []string, i int, otherwise string) string {
		if len(list) == 0 {
			return otherwise
		}
		return list[min(i, len(list)-1)]
	}
	for i := range min(count, maxSeen) {
		seen.Labels = append(seen.Labels, suiteLabel{
			Source: of(sources, i, "unknown"), Trust: of(trust, i, otherwise), Sensitivity: of(sensitivity, i, "internal"), Tenant: of(tenants, i, "default"),
		}.label())
	}
	seen.Arguments = seen.Arguments[:min(len(seen.Arguments), maxSuspects)]
	return seen
}

// tainted says what untrusted content a context had read, if a policy has looked.
func tainted(d *auditv1.Decision) string {
	in := d.GetInputs()
	if in["seen"] == "" {
		return ""
	}
	text := "this context had read untrusted content from " + strings.ReplaceAll(in["seen"], ", ", "\nand from ")
	if names := in["arguments_from_untrusted"]; names != "" {
		text += "\nand these arguments hold values that were first read there: " + names
	}
	return text
}

// withoutSeen are inputs but for what tainted tells in words.
func withoutSeen(in map[string]string) map[string]string {
	if in["seen"] == "" {
		return in
	}
	out := make(map[string]string, len(in))
	for name, value := range in {
		if !slices.Contains([]string{"seen", "tainted", "arguments_from_untrusted"}, name) {
			out[name] = value
		}
	}
	return out
}
