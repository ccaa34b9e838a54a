package mcpbridge

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

// Config says which upstream servers there are.
type Config struct {
	// Upstreams are the servers. Where two offer the same resource the one that
	// comes first here is asked.
	Upstreams []Upstream `yaml:"upstreams"`
	// Keep is how long the tools of an upstream that is down stay listed.
	Keep time.Duration `yaml:"keep"`
	// ParkFor is how long a call waits for the answers to an upstream's question.
	ParkFor time.Duration `yaml:"park_for"`
	// MaxParked bounds the calls that wait so, and MaxParkedEach those of one
	// principal.
	MaxParked     int `yaml:"max_parked"`
	MaxParkedEach int `yaml:"max_parked_each"`
	// BackoffMin and BackoffMax bound the time between two attempts to connect.
	BackoffMin time.Duration `yaml:"backoff_min"`
	BackoffMax time.Duration `yaml:"backoff_max"`
	// CheckEvery is how often an upstream is asked whether it is there.
	CheckEvery time.Duration `yaml:"check_every"`
	// ListEvery is how often all is listed again, for servers that do not tell of
	// changes.
	ListEvery time.Duration `yaml:"list_every"`
	// ListPause is the least time between two listings of one upstream.
	ListPause time.Duration `yaml:"list_pause"`
}

// Upstream is one server, at a URL or as a command. What is zero or empty has the
// value that is named as its default.
type Upstream struct {
	// Name of the upstream, a tag of its tools.
	Name string `yaml:"name"`
	// Prefix of the names of its tools and prompts; the name and "_" by default.
	Prefix *string `yaml:"prefix"`
	// Era is "modern", "legacy" or, by default, "auto".
	Era string `yaml:"era"`

	// URL of a server of Streamable HTTP: https, or http to this machine, or with
	// AllowPrivate to a private address.
	URL string `yaml:"url"`
	// AllowPrivate admits addresses that are not of the public internet.
	AllowPrivate bool `yaml:"allow_private"`
	// BearerFile holds a token for Authorization, and HeaderFiles the values of
	// other headers. They are read for each request, so that they can be changed.
	BearerFile  string            `yaml:"bearer_file"`
	HeaderFiles map[string]string `yaml:"headers_files"`
	// CAFile holds what certificates of the server are signed with; the system's
	// authorities by default.
	CAFile string `yaml:"ca_file"`

	// Command is a server's program and its arguments.
	Command []string `yaml:"command"`
	// Env is its environment, with EnvFiles for secrets and Inherit for what it
	// gets of ours, such as PATH and HOME. There is nothing else in it.
	Env      map[string]string `yaml:"env"`
	EnvFiles map[string]string `yaml:"env_files"`
	Inherit  []string          `yaml:"inherit"`
	// WorkingDir is where it runs; where we do by default.
	WorkingDir string `yaml:"working_dir"`

	// Tools says which tools are offered; all by default.
	Tools Filter `yaml:"tools"`
	// Sessions is how many sessions there may be with a legacy server: 4 over HTTP
	// and 1, which is one process, with a command.
	Sessions int `yaml:"sessions"`
	// MaxInFlight bounds the calls at once; 16 by default.
	MaxInFlight int `yaml:"max_in_flight"`
	// Timeout of a call; one minute by default. Set, it is told to the executor.
	Timeout time.Duration `yaml:"timeout"`
	// ConnectTimeout is for a server to start and to say what it is; 30 s by
	// default.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// MaxResultBytes bounds an answer; 4 MiB by default.
	MaxResultBytes int `yaml:"max_result_bytes"`
	// MaxTools bounds how many tools, and how many of everything else, are offered;
	// 1000 by default.
	MaxTools int `yaml:"max_tools"`
	// MaxSubscriptions is of how many resources changes are followed; 100 by
	// default, and -1 for none.
	MaxSubscriptions int `yaml:"max_subscriptions"`

	timeoutSet bool // by the file
}

// Filter selects by names as the upstream has them. The patterns are those of
// [path.Match]: "*" stands for any characters, "?" for one.
type Filter struct {
	// Allow has at least one pattern that matches, or is empty.
	Allow []string `yaml:"allow"`
	// Deny has none.
	Deny []string `yaml:"deny"`
}

func (f Filter) admits(name string) bool {
	matches := func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil // patterns were checked
	}
	return (len(f.Allow) == 0 || slices.ContainsFunc(f.Allow, matches)) && !slices.ContainsFunc(f.Deny, matches)
}

// DefaultConfig returns the configuration that holds where the file is silent: no
// upstreams.
func DefaultConfig() Config {
	return Config{
		Keep:          5 * time.Minute,
		ParkFor:       10 * time.Minute,
		MaxParked:     100,
		MaxParkedEach: 10,
		BackoffMin:    500 * time.Millisecond,
		BackoffMax:    time.Minute,
		CheckEvery:    30 * time.Second,
		ListEvery:     5 * time.Minute,
		ListPause:     time.Second,
	}
}

// filled returns u, as it is in the file, with its defaults.
func (u Upstream) filled() Upstream {
	prefix := u.Name + "_"
	if u.Prefix == nil {
		u.Prefix = &prefix
	}
	def := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	if u.URL != "" {
		def(&u.Sessions, 4)
	}
	def(&u.Sessions, 1)
	def(&u.MaxInFlight, 16)
	def(&u.MaxResultBytes, 4<<20)
	def(&u.MaxTools, 1000)
	def(&u.MaxSubscriptions, 100)
	if u.Era == "" {
		u.Era = "auto"
	}
	u.timeoutSet = u.timeoutSet || u.Timeout != 0
	if u.Timeout == 0 {
		u.Timeout = time.Minute
	}
	if u.ConnectTimeout == 0 {
		u.ConnectTimeout = 30 * time.Second
	}
	return u
}

var (
	upstreamName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`) // it becomes a tag
	prefixShape  = regexp.MustCompile(`^[A-Za-z0-9_.-]{0,48}$`)
	envName      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	headerName   = regexp.MustCompile(`^[A-Za-z0-9-]+$`)
)

// Validate reports all mistakes at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	within := func(field string, got, least, most time.Duration) {
		if got < least || got > most {
			bad("%s: %v is not between %v and %v", field, got, least, most)
		}
	}
	within("keep", c.Keep, 0, 24*time.Hour)
	within("park_for", c.ParkFor, time.Second, time.Hour)
	within("backoff_min", c.BackoffMin, time.Millisecond, time.Hour)
	within("backoff_max", c.BackoffMax, c.BackoffMin, time.Hour)
	within("check_every", c.CheckEvery, 10*time.Millisecond, time.Hour)
	within("list_every", c.ListEvery, 10*time.Millisecond, 24*time.Hour)
	within("list_pause", c.ListPause, time.Millisecond, time.Hour)
	if c.MaxParked < 0 || c.MaxParked > 10000 || c.MaxParkedEach < 0 || c.MaxParkedEach > c.MaxParked {
		bad("max_parked, max_parked_each: %d and %d are not between 0 and 10000, the second at most the first", c.MaxParked, c.MaxParkedEach)
	}
	if len(c.Upstreams) > 100 {
		bad("upstreams: more than 100")
	}
	names, prefixes := map[string]bool{}, map[string]bool{}
	for i, u := range c.Upstreams {
		at := fmt.Sprintf("upstreams[%d]", i)
		if u.Name != "" {
			at = "upstreams." + u.Name
		}
		u = u.filled()
		if names[u.Name] {
			bad("%s: name: used twice", at)
		}
		if prefixes[*u.Prefix] {
			bad("%s: prefix: %q is used twice", at, *u.Prefix)
		}
		names[u.Name], prefixes[*u.Prefix] = true, true
		for _, err := range u.mistakes() {
			bad("%s: %w", at, err)
		}
	}
	return errors.Join(errs...)
}

func (u Upstream) mistakes() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	within := func(field string, got, least, most int) {
		if got < least || got > most {
			bad("%s: %d is not between %d and %d", field, got, least, most)
		}
	}
	if !upstreamName.MatchString(u.Name) {
		bad("name: %q is not up to 32 of a-z, 0-9, _ and -, the first a letter", u.Name)
	}
	if !prefixShape.MatchString(*u.Prefix) {
		bad("prefix: %q is not up to 48 of A-Z, a-z, 0-9, _, . and -", *u.Prefix)
	}
	if !slices.Contains([]string{"auto", "modern", "legacy"}, u.Era) {
		bad("era: %q is not auto, modern or legacy", u.Era)
	}
	switch {
	case (u.URL == "") == (len(u.Command) == 0):
		bad("one of url and command is needed, and only one")
	case u.URL != "":
		errs = append(errs, u.urlMistakes()...)
	default:
		errs = append(errs, u.commandMistakes()...)
	}
	for _, p := range slices.Concat(u.Tools.Allow, u.Tools.Deny) {
		if _, err := path.Match(p, ""); err != nil {
			bad("tools: %q is no pattern", p)
		}
	}
	within("sessions", u.Sessions, 1, 64)
	within("max_in_flight", u.MaxInFlight, 1, 1000)
	within("max_result_bytes", u.MaxResultBytes, 64<<10, 8<<20)
	within("max_tools", u.MaxTools, 1, 10000)
	within("max_subscriptions", u.MaxSubscriptions, -1, 1000)
	if u.Timeout < time.Millisecond || u.Timeout > time.Hour {
		bad("timeout: %v is not between 1ms and 1h", u.Timeout)
	}
	if u.ConnectTimeout < time.Millisecond || u.ConnectTimeout > 10*time.Minute {
		bad("connect_timeout: %v is not between 1ms and 10m", u.ConnectTimeout)
	}
	return errs
}

func (u Upstream) urlMistakes() []error {
	var errs []error
	target, err := url.Parse(u.URL)
	switch {
	case err != nil || target.Host == "" || target.User != nil || target.Fragment != "":
		errs = append(errs, errors.New("url: not a URL with a host, and without user and fragment"))
	case target.Scheme == "https":
	case target.Scheme != "http" || !client.Loopback(target.Hostname()) && !u.AllowPrivate:
		errs = append(errs, errors.New("url: must be https; http is for this machine, and with allow_private for private addresses"))
	}
	for name := range u.HeaderFiles {
		lower := strings.ToLower(name)
		if !headerName.MatchString(name) || strings.HasPrefix(lower, "mcp-") || slices.Contains([]string{
			"host", "content-type", "content-length", "accept", "connection", "transfer-encoding", "last-event-id",
		}, lower) || lower == "authorization" && u.BearerFile != "" {
			errs = append(errs, fmt.Errorf("headers_files: %q is no header that can be set here", name))
		}
	}
	if len(u.Env)+len(u.EnvFiles)+len(u.Inherit) > 0 || u.WorkingDir != "" {
		errs = append(errs, errors.New("env, env_files, inherit and working_dir are for a command"))
	}
	return errs
}

func (u Upstream) commandMistakes() []error {
	var errs []error
	if u.Command[0] == "" {
		errs = append(errs, errors.New("command: the program is empty"))
	}
	if u.BearerFile != "" || len(u.HeaderFiles) > 0 || u.CAFile != "" || u.AllowPrivate {
		errs = append(errs, errors.New("bearer_file, headers_files, ca_file and allow_private are for a url"))
	}
	seen := map[string]bool{}
	check := func(field, name string) {
		if !envName.MatchString(name) || seen[name] {
			errs = append(errs, fmt.Errorf("%s: %q is no name of a variable, or comes twice", field, name))
		}
		seen[name] = true
	}
	for name := range u.Env {
		check("env", name)
	}
	for name := range u.EnvFiles {
		check("env_files", name)
	}
	for _, name := range u.Inherit {
		check("inherit", name)
	}
	return errs
}
