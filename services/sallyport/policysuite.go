package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// suite is a file of tests of policies.
type suite struct {
	// Policies are files and folders, seen from the folder of this file; those of
	// the running system if there are none.
	Policies []string `yaml:"policies"`
	// Tools are those that cases are about, instead of the running system's.
	Tools []suiteTool `yaml:"tools"`
	Cases []suiteCase `yaml:"cases"`

	path  string
	lines []int // of cases
}

type suiteTool struct {
	Name        string   `yaml:"name"`
	Service     string   `yaml:"service"`
	Risk        string   `yaml:"risk"`
	Trust       string   `yaml:"trust"`
	Sensitivity string   `yaml:"sensitivity"`
	Outbound    bool     `yaml:"outbound"`
	Tags        []string `yaml:"tags"`
	Scopes      []string `yaml:"scopes"`
}

// suiteCase is something that somebody does, and what should be decided.
type suiteCase struct {
	Name string    `yaml:"name"`
	As   suiteWho  `yaml:"as"`
	Call string    `yaml:"call"`
	Read string    `yaml:"read"`
	Get  string    `yaml:"get"`
	Args yaml.Node `yaml:"arguments"` // absent: not known

	Address  string    `yaml:"address"`
	Client   string    `yaml:"client"`
	Protocol string    `yaml:"protocol"`
	Context  string    `yaml:"context_source"`
	Hops     uint32    `yaml:"hops"`
	Steps    *uint64   `yaml:"steps"`
	Time     time.Time `yaml:"time"`

	Seen     []suiteLabel `yaml:"seen"`           // absent: the context is new
	Suspects []string     `yaml:"from_untrusted"` // arguments with values that were first read in untrusted content

	Expect string `yaml:"expect"` // allow, deny, approval or depends
	Policy string `yaml:"policy"` // that decides; "none" for none
	Reason string `yaml:"reason"`
}

// suiteWho is who does it: a key of the running system, or somebody described.
type suiteWho struct {
	Key    string   `yaml:"key"`
	ID     string   `yaml:"id"`
	Name   string   `yaml:"name"`
	Owner  string   `yaml:"owner"`
	Tenant string   `yaml:"tenant"`
	Roles  []string `yaml:"roles"`
	Scopes []string `yaml:"scopes"`
}

// readSuite reads a file strictly: what is not known is an error with its line.
func readSuite(path string, text []byte) (*suite, error) {
	s := &suite{path: path}
	if err := strictYAML(path, text, s); err != nil {
		return nil, err
	}
	var err error
	if s.lines, err = caseLines(text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i, p := range s.Policies {
		if !filepath.IsAbs(p) {
			s.Policies[i] = filepath.Join(filepath.Dir(path), p)
		}
	}
	var errs []error
	if len(s.Cases) == 0 {
		errs = append(errs, fmt.Errorf("%s: no cases", path))
	}
	for i := range s.Cases {
		for _, problem := range s.Cases[i].problems() {
			errs = append(errs, fmt.Errorf("%s: %s", s.at(i), problem))
		}
	}
	return s, errors.Join(errs...)
}

// at is where a case is written.
func (s *suite) at(i int) string {
	if i < len(s.lines) {
		return s.path + ":" + strconv.Itoa(s.lines[i])
	}
	return s.path
}

// problems are what is wrong with a case before anything is asked.
func (c *suiteCase) problems() (all []string) {
	wrong := func(is bool, format string, args ...any) {
		if is {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	verbs := len(slices.DeleteFunc([]string{c.Call, c.Read, c.Get}, func(s string) bool { return s == "" }))
	wrong(verbs != 1, "a case has one of call, read and get")
	wrong((c.As.Key == "") == (len(c.As.Roles) == 0), "as: either a key or roles")
	wrong(c.As.Key != "" && (c.As.ID+c.As.Name+c.As.Owner+c.As.Tenant != "" || len(c.As.Scopes) > 0), "as: nothing else goes with a key")
	wrong(!slices.Contains([]string{"allow", "deny", "approval", "depends"}, c.Expect), "expect: %q is not allow, deny, approval or depends", c.Expect)
	if c.Address != "" {
		_, err := netip.ParseAddr(c.Address)
		wrong(err != nil, "address: %q is not an IP address", c.Address)
	}
	_, known := contextSources[c.Context]
	wrong(!known, "context_source: %q is not explicit, trace, session or principal", c.Context)
	if c.Reason != "" {
		_, known := reasonNumber(c.Reason)
		wrong(!known, "reason: there is no reason %q", c.Reason)
	}
	for _, l := range c.Seen {
		all = append(all, l.problems()...)
	}
	wrong(len(c.Seen) > maxSeen, "seen: more than %d", maxSeen)
	wrong(len(c.Suspects) > maxSuspects, "from_untrusted: more than %d", maxSuspects)
	_, err := c.arguments()
	wrong(err != nil, "arguments: %v", err)
	wrong(c.Call == "" && !c.Args.IsZero(), "arguments go with call")
	return all
}

// contextSources are the words that policies have.
var contextSources = map[string]authv1.ContextSource{
	"":          authv1.ContextSource_CONTEXT_SOURCE_UNSPECIFIED,
	"explicit":  authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT,
	"trace":     authv1.ContextSource_CONTEXT_SOURCE_TRACE,
	"session":   authv1.ContextSource_CONTEXT_SOURCE_SESSION,
	"principal": authv1.ContextSource_CONTEXT_SOURCE_PRINCIPAL,
}

// arguments returns the JSON of the arguments, nil if they are not known.
func (c *suiteCase) arguments() ([]byte, error) {
	if c.Args.IsZero() {
		return nil, nil
	}
	var values map[string]any
	if err := c.Args.Decode(&values); err != nil || values == nil {
		return nil, errors.New("not a map")
	}
	raw, err := json.Marshal(values)
	if err != nil {
		return nil, errors.New("they hold something that JSON has not")
	}
	return raw, nil
}

// simulated is a case as the auth service takes it.
func (c *suiteCase) simulated() (*authv1.SimulatedCase, error) {
	arguments, err := c.arguments()
	if err != nil {
		return nil, err
	}
	s := &authv1.SimulatedCase{
		Action: authv1.Action_ACTION_TOOLS_CALL, Target: c.Call, Arguments: arguments,
		Scopes: c.As.Scopes,
		Origin: &authv1.Origin{
			Address: c.Address, Client: c.Client, ProtocolVersion: c.Protocol, ContextSource: contextSources[c.Context], Hops: c.Hops, Steps: c.Steps,
		},
	}
	switch {
	case c.Read != "":
		s.Action, s.Target = authv1.Action_ACTION_RESOURCES_READ, c.Read
	case c.Get != "":
		s.Action, s.Target = authv1.Action_ACTION_PROMPTS_GET, c.Get
	}
	s.Seen = &authv1.Seen{Arguments: c.Suspects}
	for _, l := range c.Seen {
		s.Seen.Labels = append(s.Seen.Labels, l.label())
	}
	if !c.Time.IsZero() {
		s.Time = timestamppb.New(c.Time)
	}
	if c.As.Key != "" {
		s.Subject = &authv1.SimulatedCase_KeyName{KeyName: c.As.Key}
		return s, nil
	}
	p := described(c.As.Roles, c.As.Tenant)
	p.Name, p.Owner = c.As.Name, c.As.Owner
	if c.As.ID != "" {
		p.Id = c.As.ID
	}
	s.Subject = &authv1.SimulatedCase_Principal{Principal: p}
	return s, nil
}

// simulated are the tools as the auth service takes them.
func (s *suite) simulated() (tools []*authv1.SimulatedTool) {
	for _, t := range s.Tools {
		tools = append(tools, &authv1.SimulatedTool{
			Name: t.Name, Service: t.Service, Risk: t.Risk, Trust: t.Trust, Sensitivity: t.Sensitivity,
			Outbound: t.Outbound, Tags: t.Tags, Scopes: t.Scopes,
		})
	}
	return tools
}
