package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// Config is the configuration file: one for the whole system, of which each
// process reads the common part and the sections of the roles it plays.
type Config struct {
	// StateDir is where everything is kept that must survive a restart.
	StateDir string `yaml:"state_dir"`
	// Node names this process in logs, traces and the audit record; the host's
	// name when empty.
	Node string `yaml:"node"`
	// Log says what is logged: debug, info, warn or error.
	Log slog.Level `yaml:"log"`
	// Admin is the address of health, metrics and profiles; empty for none.
	Admin string `yaml:"admin"`
	// Listen holds the gRPC address of each role that other processes call.
	Listen map[string]string `yaml:"listen"`
	// Advertise holds where a role can be reached, where that is not the address it
	// listens on: tool services tell executors, quota nodes each other. The latter need
	// an address for each; what is shared is of no use to them.
	Advertise map[string]string `yaml:"advertise"`
	// Peers holds the gRPC target of each role that is played elsewhere, or the
	// addresses of its replicas with commas between them.
	Peers map[string]string `yaml:"peers"`
	// Drain is how long calls in flight may take to end when the process stops.
	Drain time.Duration `yaml:"drain"`
	// Bus says where NATS is.
	Bus bus.Config `yaml:"bus"`
	// TLS is the identity of this process among its peers. Without one it neither
	// listens for nor dials other processes.
	TLS rpc.TLS `yaml:"tls"`
	// Audit bounds what waits for the audit stream.
	Audit audit.Config `yaml:"audit"`
	// Roles holds a section for each role; see the role's package.
	Roles map[string]yaml.Node `yaml:"roles"`

	file string // that sections are from; empty if not as it is
}

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config {
	return Config{
		StateDir: ".sallyport",
		Admin:    "127.0.0.1:0",
		Drain:    10 * time.Second,
		Bus:      bus.DefaultConfig(),
		Audit:    audit.DefaultConfig(),
	}
}

// Validate reports every mistake of the common part at once.
func (c Config) Validate() error {
	errs := []error{c.Bus.Validate(), c.TLS.Validate(), c.Audit.Validate()}
	if c.StateDir == "" {
		errs = append(errs, errors.New("state_dir: must not be empty"))
	}
	if c.Drain < 0 || c.Drain > 5*time.Minute {
		errs = append(errs, fmt.Errorf("drain: %v is not between 0s and 5m", c.Drain))
	}
	if !c.TLS.Enabled() && len(c.Listen)+len(c.Peers) > 0 {
		errs = append(errs, errors.New("tls: missing; listen and peers need an identity (ca, cert, key), since roles are known by their certificates"))
	}
	return errors.Join(errs...)
}

// Load reads a configuration file over the defaults, strictly: what is not known
// is an error with its line. An empty name is the defaults. Each of set is
// "path.to.key=value", applied to the file's content before it is read.
func Load(file string, set ...string) (Config, error) {
	var root yaml.Node
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return Config{}, fmt.Errorf("configuration: %w", err)
		}
		if err := yaml.Unmarshal(b, &root); err != nil {
			return Config{}, fmt.Errorf("%s: %w", file, err)
		}
	}
	for _, s := range set {
		if err := override(&root, s); err != nil {
			return Config{}, err
		}
	}
	cfg := DefaultConfig()
	if root.Kind != 0 {
		b, err := yaml.Marshal(&root)
		if err != nil {
			return Config{}, err
		}
		if len(set) == 0 { // keep the lines of the file in errors
			if b, err = os.ReadFile(file); err != nil {
				return Config{}, fmt.Errorf("configuration: %w", err)
			}
		}
		if err := strict(bytes.NewReader(b), &cfg); err != nil {
			return Config{}, fmt.Errorf("%s: %w", file, err)
		}
	}
	if err := cfg.Validate(); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	if len(set) == 0 {
		cfg.file = file
	}
	var err error
	if cfg.StateDir, err = filepath.Abs(cfg.StateDir); err != nil {
		return Config{}, err
	}
	if cfg.Bus.Dir == "" {
		cfg.Bus.Dir = filepath.Join(cfg.StateDir, "nats")
	}
	if cfg.Node == "" {
		if cfg.Node, err = os.Hostname(); err != nil {
			return Config{}, err
		}
	}
	return cfg, nil
}

// Section fills out, which holds the defaults, from the section of a role. A key
// that out does not have is an error.
func (c Config) Section(role string, out Validator) error {
	n, ok := c.Roles[role]
	if ok {
		b, err := yaml.Marshal(&n)
		if err != nil {
			return err
		}
		if err := strict(bytes.NewReader(b), out); err != nil {
			return fmt.Errorf("roles.%s: %w", role, relocate(err, &n))
		}
	}
	if err := out.Validate(); err != nil {
		if ok {
			err = c.located(err, &n)
		}
		return fmt.Errorf("roles.%s: %w", role, err)
	}
	return nil
}

var unknownField = regexp.MustCompile(`line \d+: field (\S+) not found`)

// relocate gives an error about a section, which was decoded apart from the
// file, the line that the field has in the file.
func relocate(err error, section *yaml.Node) error {
	return errors.New(unknownField.ReplaceAllStringFunc(err.Error(), func(found string) string {
		field := unknownField.FindStringSubmatch(found)[1]
		if at := lineOf(section, field); at > 0 {
			return fmt.Sprintf("line %d: field %s not found", at, field)
		}
		return found
	}))
}

// lineOf returns the line of the first key with a name, 0 if there is none.
func lineOf(n *yaml.Node, key string) int {
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i].Line
			}
		}
	}
	for _, c := range n.Content {
		if at := lineOf(c, key); at > 0 {
			return at
		}
	}
	return 0
}

// Unknown returns the sections of roles that are not in known: most likely they
// are misspelt.
func (c Config) Unknown(known ...string) []string {
	var out []string
	for name := range c.Roles {
		if !slices.Contains(known, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Validator is a configuration that can check itself.
type Validator interface{ Validate() error }

func strict(r io.Reader, v any) error {
	d := yaml.NewDecoder(r)
	d.KnownFields(true)
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// override sets one scalar in a document.
func override(root *yaml.Node, assignment string) error {
	path, value, ok := strings.Cut(assignment, "=")
	if !ok || path == "" {
		return fmt.Errorf("-set %q: want path.to.key=value", assignment)
	}
	var leaf yaml.Node
	if err := yaml.Unmarshal([]byte(value), &leaf); err != nil {
		return fmt.Errorf("-set %q: %w", assignment, err)
	}
	if root.Kind == 0 {
		*root = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	at := root.Content[0]
	for key := range strings.SplitSeq(path, ".") {
		if at.Kind != yaml.MappingNode {
			return fmt.Errorf("-set %q: %q is not within a mapping", assignment, key)
		}
		i := 0
		for ; i < len(at.Content) && at.Content[i].Value != key; i += 2 {
		}
		if i >= len(at.Content) {
			at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, &yaml.Node{Kind: yaml.MappingNode})
		}
		at = at.Content[i+1]
	}
	if leaf.Kind == 0 {
		leaf = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str"}}}
	}
	*at = *leaf.Content[0]
	return nil
}
