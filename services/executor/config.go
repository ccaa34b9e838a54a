package executor

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/approval"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/isolate"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
)

// Config is the section "executor" of the roles in the configuration file.
type Config struct {
	// Services are servers that do not announce themselves. Those that are no
	// providers are asked by gRPC server reflection, so their tools have no
	// descriptions.
	Services []ServiceConfig `yaml:"services"`
	// Joining says by which names the tools and prompts of services are known, and
	// what their tools are to be taken for, by service.
	Joining map[string]joining.Config `yaml:"joining"`
	// Hold says which definitions of tools are held back until somebody has
	// approved them, by service.
	Hold approval.Config `yaml:"hold"`
	// Guards look at arguments and results.
	Guards guard.Config `yaml:"guards"`
	// Envelope says which texts are marked as data.
	Envelope EnvelopeConfig `yaml:"envelope"`
	// ReflectionInterval is how often such servers are asked again.
	ReflectionInterval time.Duration `yaml:"reflection_interval"`
	// HealthInterval is how often replicas of tool services are asked, by the gRPC
	// health protocol, whether they are to be called.
	HealthInterval time.Duration `yaml:"health_interval"`
	// GrantKeyFiles hold the keys that auth signs grants with, at least 32 bytes
	// each. They are read again when they change and need not exist, so a key can
	// be replaced while all run: name a second file, put the new key there before
	// auth signs with it. None means secrets/grant.key in the state folder.
	GrantKeyFiles []string `yaml:"grant_key_files"`
	// GrantKeyOverlap is how long a key is accepted that is in no file any more.
	// It has to be longer than grants live (grant_life of auth), by ten seconds.
	GrantKeyOverlap time.Duration `yaml:"grant_key_overlap"`
	// DefaultTimeout bounds calls of tools that do not say how long they take.
	DefaultTimeout time.Duration `yaml:"default_timeout"`
	// AuditTimeout is how long a destructive call waits for the acknowledgement
	// of its intent.
	AuditTimeout time.Duration `yaml:"audit_timeout"`
	// MaxResultBytes bounds a result's JSON.
	MaxResultBytes int `yaml:"max_result_bytes"`
	// Isolation says how much one tool service may cost the others; its settings
	// stand in this section itself.
	Isolation isolate.Config `yaml:",inline"`
	// MaxUsedGrants bounds the memory of grants that were used up. Destructive
	// tools are refused while it is full.
	MaxUsedGrants int `yaml:"max_used_grants"`
}

// EnvelopeConfig says where untrusted texts go back as the tool or provider gave them,
// without the lines around them that tell a model that they are data. What contexts
// have seen is on record all the same.
type EnvelopeConfig struct {
	// Off is for all tools and resources.
	Off bool `yaml:"off"`
	// ExceptTools are names of tools, as clients know them.
	ExceptTools []string `yaml:"except_tools"`
	// ExceptResources are services whose resources, in prompts too, go back as they
	// are: for clients that save or parse what they read.
	ExceptResources []string `yaml:"except_resources"`
	// ExceptRoles are roles of callers, for programs that are no models.
	ExceptRoles []string `yaml:"except_roles"`
}

func (c EnvelopeConfig) validate() error {
	var errs []error
	for i, name := range c.ExceptTools {
		if name == "" || len(name) > 64 {
			errs = append(errs, fmt.Errorf("envelope.except_tools[%d]: %q is not the name of a tool", i, name))
		}
	}
	for i, name := range c.ExceptResources {
		if !serviceName.MatchString(name) {
			errs = append(errs, fmt.Errorf("envelope.except_resources[%d]: the service %q must match %s", i, name, serviceName))
		}
	}
	for i, role := range c.ExceptRoles {
		if role == "" || len(role) > 64 {
			errs = append(errs, fmt.Errorf("envelope.except_roles[%d]: %q is not a role", i, role))
		}
	}
	return errors.Join(errs...)
}

// marks reports whether texts of a tool are marked for a caller.
func (c EnvelopeConfig) marks(tool string, roles []string) bool {
	return !slices.Contains(c.ExceptTools, tool) && c.marksFor(roles)
}

// marksRead reports whether resources of a service are marked for a caller.
func (c EnvelopeConfig) marksRead(service string, roles []string) bool {
	return !slices.Contains(c.ExceptResources, service) && c.marksFor(roles)
}

func (c EnvelopeConfig) marksFor(roles []string) bool {
	return !c.Off && !slices.ContainsFunc(roles, func(role string) bool { return slices.Contains(c.ExceptRoles, role) })
}

// ServiceConfig names a server.
type ServiceConfig struct {
	// Name of the tool service: "customers".
	Name string `yaml:"name"`
	// Address is a gRPC target.
	Address string `yaml:"address"`
	// Provider says that it implements sallyport.provider.v1.ProviderService.
	Provider bool `yaml:"provider"`
}

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config {
	return Config{
		Hold:               approval.DefaultConfig(),
		Guards:             guard.DefaultConfig(),
		ReflectionInterval: 30 * time.Second,
		HealthInterval:     2 * time.Second,
		GrantKeyOverlap:    time.Minute,
		DefaultTimeout:     10 * time.Second,
		AuditTimeout:       2 * time.Second,
		MaxResultBytes:     1 << 20,
		Isolation:          isolate.DefaultConfig(),
		MaxUsedGrants:      100000,
	}
}

var serviceName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Validate reports every mistake at once.
func (c Config) Validate() error {
	var errs []error
	for i, s := range c.Services {
		if !serviceName.MatchString(s.Name) {
			errs = append(errs, fmt.Errorf("services[%d].name: %q must match %s", i, s.Name, serviceName))
		}
		if s.Address == "" {
			errs = append(errs, fmt.Errorf("services[%d].address: missing", i))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Joining)) {
		if !serviceName.MatchString(name) {
			errs = append(errs, fmt.Errorf("joining: the service %q must match %s", name, serviceName))
		}
		if err := c.Joining[name].Validate(); err != nil {
			errs = append(errs, fmt.Errorf("joining.%s: %w", name, err))
		}
	}
	if err := c.Hold.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Guards.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("guards: %w", err))
	}
	errs = append(errs, c.Envelope.validate())
	for i, f := range c.GrantKeyFiles {
		if f == "" {
			errs = append(errs, fmt.Errorf("grant_key_files[%d]: empty", i))
		}
	}
	between := func(name string, d, low, high time.Duration) {
		if d < low || d > high {
			errs = append(errs, fmt.Errorf("%s: %v must be %v to %v", name, d, low, high))
		}
	}
	between("reflection_interval", c.ReflectionInterval, time.Second, 24*time.Hour)
	between("health_interval", c.HealthInterval, 100*time.Millisecond, time.Minute)
	between("grant_key_overlap", c.GrantKeyOverlap, 0, 2*bus.GrantLife)
	between("default_timeout", c.DefaultTimeout, time.Millisecond, time.Hour)
	between("audit_timeout", c.AuditTimeout, time.Millisecond, time.Minute)
	// A result is sent twice, as data and as text, within 8 MiB at most.
	if c.MaxResultBytes < 1024 || c.MaxResultBytes > 4<<20 {
		errs = append(errs, fmt.Errorf("max_result_bytes: %d must be 1024 to %d", c.MaxResultBytes, 4<<20))
	}
	if err := c.Isolation.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.MaxUsedGrants < 1 {
		errs = append(errs, fmt.Errorf("max_used_grants: %d must be positive", c.MaxUsedGrants))
	}
	return errors.Join(errs...)
}
