package edge

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/clientaddr"
)

// Config is the edge's section of the configuration file, roles.edge.
type Config struct {
	// Listen is the address to serve MCP on. Port 0 takes any free port; "fd:3"
	// is a socket inherited from the parent process.
	Listen string `yaml:"listen"`
	// TLSCert and TLSKey are files in PEM. Both or neither; without them the
	// edge speaks plain HTTP/1.1, which is for loopback or behind a proxy.
	TLSCert string `yaml:"tls_cert"`
	TLSKey  string `yaml:"tls_key"`
	// TLSClientCA is a file in PEM of the authorities whose client certificates are
	// taken. Nobody needs one; without the file none is asked for. OAuth tokens can
	// be bound to a certificate (RFC 8705).
	TLSClientCA string `yaml:"tls_client_ca"`
	// TLSTrustDomain is the SPIFFE trust domain of those authorities: a certificate
	// with an id in it is a credential by itself. Without it none is.
	TLSTrustDomain string `yaml:"tls_trust_domain"`
	// PublicURL is how clients reach this server, without /mcp: what a proof of
	// DPoP has to be made for. It is needed behind a proxy that ends TLS or changes
	// Host or path; else it is taken from the request.
	PublicURL string `yaml:"public_url"`
	// AllowedHosts are the names that clients may use for this server. An entry
	// without a port allows any.
	AllowedHosts []string `yaml:"allowed_hosts"`
	// AllowedOrigins are web origins, such as https://app.example.com, whose
	// pages may call besides those of this server itself.
	AllowedOrigins []string `yaml:"allowed_origins"`
	// TrustedProxies are addresses or networks whose X-Forwarded-For is believed.
	TrustedProxies []string `yaml:"trusted_proxies"`

	// MaxBodyBytes bounds the body of a request.
	MaxBodyBytes int `yaml:"max_body_bytes"`
	// MaxConnectionsPerAddress bounds the open connections of one client
	// address (of one /64 network for IPv6). Trusted proxies have no bound.
	MaxConnectionsPerAddress int `yaml:"max_connections_per_address"`
	// HeaderTimeout is how long a client may take to send the headers of a
	// request, and for the handshake of TLS.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// BodyTimeout is how long a client may take to send a body.
	BodyTimeout time.Duration `yaml:"body_timeout"`
	// WriteTimeout is how long a client may take to receive an answer.
	WriteTimeout time.Duration `yaml:"write_timeout"`
	// PeerTimeout is how long auth, quota and the catalogue may take to answer; all
	// together where they decide on a call.
	PeerTimeout time.Duration `yaml:"peer_timeout"`
	// CallTimeout is how long any tool call may take; tools have their own,
	// shorter limits.
	CallTimeout time.Duration `yaml:"call_timeout"`
	// MaxHops is how many agents and tools a call may have come through. More is
	// taken for a loop and refused.
	MaxHops int `yaml:"max_hops"`
	// StreamAfter is how long a call may last before its answer becomes an event
	// stream, so that the client sees that it is alive.
	StreamAfter time.Duration `yaml:"stream_after"`
	// KeepAlive is how long an event stream may be silent.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// AnswerTimeout is how long a client may take to answer what a tool asks it
	// (the legacy era).
	AnswerTimeout time.Duration `yaml:"answer_timeout"`
	// ApprovalWait is how long a call is held open that somebody has to approve,
	// where that is not the user whom the client asks; 0 does not hold it. Many
	// clients give up a call that lasts; it can be made again once it is approved.
	ApprovalWait time.Duration `yaml:"approval_wait"`
	// MaxApprovalWaits is how many calls are held open for that at this process, and
	// MaxApprovalWaitsPerKey how many of one principal. More are told at once that
	// they have to be approved.
	MaxApprovalWaits       int `yaml:"max_approval_waits"`
	MaxApprovalWaitsPerKey int `yaml:"max_approval_waits_per_key"`
	// MaxStreams is how many clients may listen for changes at this process, and
	// MaxStreamsPerKey how many of one principal.
	MaxStreams       int `yaml:"max_streams"`
	MaxStreamsPerKey int `yaml:"max_streams_per_key"`
	// DrainTimeout is how long requests in flight may take at shutdown.
	DrainTimeout time.Duration `yaml:"drain_timeout"`

	// AnonymousRecords is how many refusals of callers without a good credential
	// are recorded in a second, on average; ten times as many at once. The rest
	// are counted.
	AnonymousRecords int `yaml:"anonymous_records"`

	// AuthCacheSize is how many authentications are remembered; 0 remembers none.
	AuthCacheSize int `yaml:"auth_cache_size"`
	// AuthCacheTTL bounds how long one is remembered; auth may ask for less.
	AuthCacheTTL time.Duration `yaml:"auth_cache_ttl"`
	// QuotaLeases lets the edge allow by itself what quota has charged in advance for
	// requests that come again and again under large limits. Without it quota is asked
	// about each.
	QuotaLeases bool `yaml:"quota_leases"`
	// PageSize is how many tools one page of tools/list holds.
	PageSize int `yaml:"page_size"`
	// ListTTL is how long clients are told they may keep a list of tools.
	ListTTL time.Duration `yaml:"list_ttl"`
	// StateKeyFiles hold keys that seal what clients bring back, 32 bytes each;
	// all edges need the same. The first seals, all open, so that one can be
	// replaced. None means secrets/edge.key in the state directory, which is made
	// if it is not there.
	StateKeyFiles []string `yaml:"state_key_files"`
	// Instructions are handed to models that connect.
	Instructions string `yaml:"instructions"`
}

// DefaultConfig returns a configuration for one machine: loopback only.
func DefaultConfig() Config {
	return Config{
		Listen:                   "127.0.0.1:8080",
		AllowedHosts:             []string{"localhost", "127.0.0.1", "[::1]"},
		MaxBodyBytes:             256 << 10,
		MaxConnectionsPerAddress: 1024,
		HeaderTimeout:            5 * time.Second,
		BodyTimeout:              10 * time.Second,
		WriteTimeout:             30 * time.Second,
		PeerTimeout:              2 * time.Second,
		CallTimeout:              5 * time.Minute,
		MaxHops:                  16,
		StreamAfter:              time.Second,
		KeepAlive:                15 * time.Second,
		AnswerTimeout:            bus.RoundLife,
		ApprovalWait:             50 * time.Second,
		MaxApprovalWaits:         1000,
		MaxApprovalWaitsPerKey:   20,
		MaxStreams:               10_000,
		MaxStreamsPerKey:         64,
		DrainTimeout:             15 * time.Second,
		AnonymousRecords:         100,
		AuthCacheSize:            10_000,
		AuthCacheTTL:             30 * time.Second,
		QuotaLeases:              true,
		PageSize:                 100,
		ListTTL:                  5 * time.Second,
		Instructions: "Every call is checked, limited and recorded. A refusal is a tool result with isError; " +
			"its text says whether and when a retry can help.",
	}
}

// maxBody is what the contracts of auth and the executor can carry.
const maxBody = 1 << 20

// Validate reports all mistakes at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if _, _, err := net.SplitHostPort(c.Listen); err != nil && !strings.HasPrefix(c.Listen, "fd:") {
		bad("listen: %q is not host:port", c.Listen)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("tls_cert, tls_key: set both or neither")
	}
	if c.TLSClientCA != "" && c.TLSCert == "" {
		bad("tls_client_ca: without tls_cert there are no client certificates")
	}
	switch {
	case c.TLSTrustDomain == "":
	case c.TLSClientCA == "":
		bad("tls_trust_domain: without tls_client_ca no certificate is asked for")
	case !trustDomain(c.TLSTrustDomain):
		bad("tls_trust_domain: %q is not a name such as example.org, without spiffe://", c.TLSTrustDomain)
	}
	if c.PublicURL != "" {
		if fault := publicURLFault(c.PublicURL); fault != "" {
			bad("public_url: %q %s", c.PublicURL, fault)
		}
	}
	for i, file := range c.StateKeyFiles {
		if file == "" {
			bad("state_key_files[%d]: empty", i)
		}
	}
	if len(c.AllowedHosts) == 0 {
		bad("allowed_hosts: name at least one host, or nobody can connect")
	}
	for _, host := range c.AllowedHosts {
		if host == "" || strings.ContainsAny(host, "/* \t") {
			bad("allowed_hosts: %q is not a host name or address with an optional port", host)
		}
	}
	for _, origin := range c.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
			bad("allowed_origins: %q is not an origin such as https://app.example.com", origin)
		}
	}
	if _, err := clientaddr.New(c.TrustedProxies); err != nil {
		bad("trusted_proxies: %w", err)
	}
	between := func(name string, n, low, high int) {
		if n < low || n > high {
			bad("%s: %d is not between %d and %d", name, n, low, high)
		}
	}
	between("max_body_bytes", c.MaxBodyBytes, 1<<10, maxBody)
	between("max_connections_per_address", c.MaxConnectionsPerAddress, 1, 1<<20)
	between("max_approval_waits", c.MaxApprovalWaits, 0, 1_000_000)
	between("max_approval_waits_per_key", c.MaxApprovalWaitsPerKey, 0, 1_000_000)
	between("max_streams", c.MaxStreams, 0, 1_000_000)
	between("max_streams_per_key", c.MaxStreamsPerKey, 0, 1_000_000)
	between("anonymous_records", c.AnonymousRecords, 1, 1_000_000)
	between("auth_cache_size", c.AuthCacheSize, 0, 1_000_000)
	between("page_size", c.PageSize, 1, 1000)
	between("max_hops", c.MaxHops, 0, maxHops)
	between("instructions (length)", len(c.Instructions), 0, 4096)
	within := func(name string, d, low, high time.Duration) {
		if d < low || d > high {
			bad("%s: %v is not between %v and %v", name, d, low, high)
		}
	}
	within("header_timeout", c.HeaderTimeout, time.Millisecond, time.Minute)
	within("body_timeout", c.BodyTimeout, time.Millisecond, 10*time.Minute)
	within("write_timeout", c.WriteTimeout, time.Millisecond, 10*time.Minute)
	within("peer_timeout", c.PeerTimeout, time.Millisecond, time.Minute)
	within("call_timeout", c.CallTimeout, time.Millisecond, time.Hour)
	within("stream_after", c.StreamAfter, time.Millisecond, time.Hour)
	within("keep_alive", c.KeepAlive, time.Millisecond, 10*time.Minute)
	within("answer_timeout", c.AnswerTimeout, time.Millisecond, bus.RoundLife)
	within("approval_wait", c.ApprovalWait, 0, time.Hour)
	within("drain_timeout", c.DrainTimeout, 0, time.Hour)
	within("auth_cache_ttl", c.AuthCacheTTL, 0, 5*time.Minute)
	within("list_ttl", c.ListTTL, 0, 24*time.Hour)
	return errors.Join(errs...)
}
