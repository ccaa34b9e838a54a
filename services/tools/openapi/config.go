package openapi

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/credential"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/egress"
)

// Config says which APIs there are.
type Config struct {
	// APIs are what is made into tools. Where two have a tool of the same name, that of
	// the first is taken.
	APIs []API `yaml:"apis"`
	// CheckEvery is how often it is looked whether a document has changed.
	CheckEvery time.Duration `yaml:"check_every"`
}

// API is one OpenAPI document and what is made of it. What is zero or empty has the
// value that is named as its default.
type API struct {
	// Name of the API, a tag of its tools.
	Name string `yaml:"name"`
	// Prefix of the names of its tools; the name and "_" by default.
	Prefix *string `yaml:"prefix"`

	// File or URL is where the document is, in JSON or YAML.
	File string `yaml:"file"`
	URL  string `yaml:"url"`
	// SHA256 is the only document that is taken, in 64 hexadecimal digits.
	SHA256 string `yaml:"sha256"`
	// MaxDocumentBytes bounds the document; 4 MiB by default.
	MaxDocumentBytes int `yaml:"max_document_bytes"`

	// BaseURL is where calls go, whatever servers the document names. Without it they
	// go to the document's, if these are of Hosts or of the document's own host.
	BaseURL string `yaml:"base_url"`
	// Hosts may be called besides those of URL, BaseURL and of tokens:
	// "api.example.com", with ":8443" or as "http://intern:8080".
	Hosts []string `yaml:"hosts"`
	// Addresses are what the hosts' addresses must be of, such as 10.0.0.0/8. By
	// default they must be of the public internet, and https is needed.
	Addresses []netip.Prefix `yaml:"addresses"`
	// CAFile holds what certificates of the hosts are signed with; the system's
	// authorities by default.
	CAFile string `yaml:"ca_file"`
	// Credentials are sent to the host of BaseURL.
	Credentials []credential.Config `yaml:"credentials"`

	// Operations says which become tools; those of GET and HEAD by default.
	Operations Selection `yaml:"operations"`
	// Aliases are names of tools, without the prefix, by operationId, or by method and
	// path: "GET /pets".
	Aliases map[string]string `yaml:"aliases"`
	// Methods is what tools are taken for by their method: "post".
	Methods map[string]Options `yaml:"methods"`
	// PathSlashes lets arguments in paths have slashes, encoded as %2F.
	PathSlashes bool `yaml:"path_slashes"`
	// NoOutputSchemas leaves out what answers are promised to be, for APIs that do not
	// keep to their document.
	NoOutputSchemas bool `yaml:"no_output_schemas"`

	// Timeout of a call; 30 s by default. Set, it is told to the executor.
	Timeout time.Duration `yaml:"timeout"`
	// MaxInFlight bounds the calls at once; 16 by default.
	MaxInFlight int `yaml:"max_in_flight"`
	// MaxResultBytes bounds an answer; 512 KiB by default.
	MaxResultBytes int `yaml:"max_result_bytes"`
	// MaxTools bounds how many operations become tools; 500 by default.
	MaxTools int `yaml:"max_tools"`
}

// Selection says which operations become tools: those of Methods and Tags, and those
// that are Named, but none of Deny.
type Selection struct {
	// Methods by which operations are taken; get and head by default, [] for none.
	Methods []string `yaml:"methods"`
	// Tags, if there are any, of which those must have one.
	Tags []string `yaml:"tags"`
	// Named are taken whatever their method is, by operationId or "POST /pets".
	Named []string `yaml:"named"`
	// Deny are patterns, as of [path.Match], of an operationId, or "POST /pets".
	Deny []string `yaml:"deny"`
}

// Options are what tools of a method are taken for. The executor's configuration can
// say more, and of single tools.
type Options struct {
	// Risk is read, write or destructive: by default read of GET and HEAD, destructive
	// of DELETE, and write of others.
	Risk string `yaml:"risk"`
	// Sensitivity of results is public, internal or confidential; internal by default.
	Sensitivity string `yaml:"sensitivity"`
	// Trust in results is trusted, internal or untrusted; untrusted by default.
	Trust string `yaml:"trust"`
	// Outbound says that data leaves the company's hands; so it is by default unless
	// all Addresses are private ones.
	Outbound *bool `yaml:"outbound"`
}

// DefaultConfig returns the configuration that holds where the file is silent: no
// APIs.
func DefaultConfig() Config { return Config{CheckEvery: time.Minute} }

// methods are all that can become tools.
var methods = []string{"get", "head", "options", "post", "put", "patch", "delete"}

// filled returns a, as it is in the file, with its defaults.
func (a API) filled() API {
	if a.Prefix == nil {
		prefix := strings.ReplaceAll(a.Name, "-", "_") + "_"
		a.Prefix = &prefix
	}
	if a.Operations.Methods == nil {
		a.Operations.Methods = []string{"get", "head"}
	}
	def := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	def(&a.MaxDocumentBytes, 4<<20)
	def(&a.MaxInFlight, 16)
	def(&a.MaxResultBytes, 512<<10)
	def(&a.MaxTools, 500)
	return a
}

// patience is how long a call may take.
func (a API) patience() time.Duration {
	if a.Timeout == 0 {
		return 30 * time.Second
	}
	return a.Timeout
}

var (
	apiName     = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`) // it becomes a tag
	prefixShape = regexp.MustCompile(`^[A-Za-z0-9_.-]{0,48}$`)
	aliasShape  = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

// Validate reports all mistakes at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.CheckEvery < 10*time.Millisecond || c.CheckEvery > 24*time.Hour {
		bad("check_every: %v is not between 10ms and 24h", c.CheckEvery)
	}
	if len(c.APIs) > 100 {
		bad("apis: more than 100")
	}
	names, prefixes := map[string]bool{}, map[string]bool{}
	for i, a := range c.APIs {
		at := fmt.Sprintf("apis[%d]", i)
		if a.Name != "" {
			at = "apis." + a.Name
		}
		a = a.filled()
		if names[a.Name] {
			bad("%s: name: used twice", at)
		}
		if prefixes[*a.Prefix] {
			bad("%s: prefix: %q is used twice", at, *a.Prefix)
		}
		names[a.Name], prefixes[*a.Prefix] = true, true
		for _, err := range slices.Concat(a.mistakes(), a.placeMistakes()) {
			bad("%s: %w", at, err)
		}
	}
	return errors.Join(errs...)
}

func (a API) mistakes() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	within := func(field string, got, least, most int) {
		if got < least || got > most {
			bad("%s: %d is not between %d and %d", field, got, least, most)
		}
	}
	if !apiName.MatchString(a.Name) {
		bad("name: %q is not up to 32 of a-z, 0-9, _ and -, the first a letter", a.Name)
	}
	if !prefixShape.MatchString(*a.Prefix) {
		bad("prefix: %q is not up to 48 of A-Z, a-z, 0-9, _, . and -", *a.Prefix)
	}
	if sum, err := hex.DecodeString(a.SHA256); err != nil || len(sum) != 0 && len(sum) != 32 {
		bad("sha256: not 64 hexadecimal digits")
	}
	for _, m := range a.Operations.Methods {
		if !slices.Contains(methods, m) {
			bad("operations.methods: %q is none of %s", m, strings.Join(methods, ", "))
		}
	}
	for _, p := range a.Operations.Deny {
		if _, err := path.Match(p, ""); err != nil {
			bad("operations.deny: %q is no pattern", p)
		}
	}
	for of, alias := range a.Aliases {
		if !aliasShape.MatchString(alias) {
			bad("aliases.%s: %q is not up to 64 of A-Z, a-z, 0-9, _, . and -", of, alias)
		}
	}
	for m, o := range a.Methods {
		if !slices.Contains(methods, m) {
			bad("methods: %q is none of %s", m, strings.Join(methods, ", "))
		}
		if _, err := o.options(m, false); err != nil {
			bad("methods.%s: %w", m, err)
		}
	}
	within("max_document_bytes", a.MaxDocumentBytes, 1024, 16<<20)
	within("max_in_flight", a.MaxInFlight, 1, 1000)
	within("max_result_bytes", a.MaxResultBytes, 1024, 4<<20)
	within("max_tools", a.MaxTools, 1, 10000)
	if t := a.patience(); t < time.Millisecond || t > time.Hour {
		bad("timeout: %v is not between 1ms and 1h", t)
	}
	return errs
}

// placeMistakes are those of where the document is and where calls go.
func (a API) placeMistakes() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if (a.File == "") == (a.URL == "") {
		bad("one of file and url is needed, and only one")
	}
	if a.BaseURL == "" && len(a.Credentials) > 0 {
		bad("credentials: need a base_url, for they go to the host that you name and not to one of the document")
	}
	if a.BaseURL != "" {
		if _, err := readBase(a.BaseURL); err != nil {
			bad("base_url: %w", err)
		}
	}
	if _, err := a.origins(); err != nil {
		errs = append(errs, err)
	}
	for i, c := range a.Credentials {
		if err := c.Validate(); err != nil {
			bad("credentials[%d]: %w", i, err)
		}
	}
	for _, p := range a.Addresses {
		for _, never := range []string{"169.254.0.0/16", "224.0.0.0/4", "fe80::/10", "ff00::/8", "0.0.0.0/32", "::/128"} {
			if n := netip.MustParsePrefix(never); !p.IsValid() || n.Bits() <= p.Bits() && n.Contains(p.Addr()) {
				bad("addresses: %s is never connected to", p)
			}
		}
	}
	return errs
}

// origins returns all hosts that may be called. Plain HTTP is for addresses that are
// listed: over the internet it is not used.
func (a API) origins() ([]egress.Origin, error) {
	var all []egress.Origin
	var errs []error
	add := func(field string, o egress.Origin, err error) {
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		case o.Scheme != "https" && len(a.Addresses) == 0:
			errs = append(errs, fmt.Errorf("%s: must be https; http is for hosts whose addresses are listed", field))
		case !slices.Contains(all, o):
			all = append(all, o)
		}
	}
	of := func(field, text string) {
		if u, err := url.Parse(text); err != nil {
			add(field, egress.Origin{}, errors.New("not a URL"))
		} else {
			o, err := egress.OriginOf(u)
			add(field, o, err)
		}
	}
	if a.URL != "" {
		of("url", a.URL)
	}
	if a.BaseURL != "" {
		of("base_url", a.BaseURL)
	}
	for i, c := range a.Credentials {
		if c.TokenURL != "" {
			of(fmt.Sprintf("credentials[%d].token_url", i), c.TokenURL)
		}
	}
	for _, h := range a.Hosts {
		o, err := egress.ParseOrigin(h)
		add("hosts: "+h, o, err)
	}
	return all, errors.Join(errs...)
}

// readBase reads a URL that paths are added to.
func readBase(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	o, err := egress.OriginOf(u)
	if err != nil {
		return nil, err
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || path.Clean("/"+u.Path) != "/"+strings.Trim(u.Path, "/") {
		return nil, errors.New("has a query, a fragment, or a path that is not plain")
	}
	at, err := url.Parse(o.String())
	if err != nil {
		return nil, err
	}
	if at.Port() == "443" && at.Scheme == "https" || at.Port() == "80" && at.Scheme == "http" {
		at.Host = strings.TrimSuffix(at.Host, ":"+at.Port())
	}
	at.Path = strings.TrimRight(u.Path, "/")
	return at, nil
}
