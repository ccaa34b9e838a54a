package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// wellKnown is where RFC 9728 has the metadata of a resource, before its path.
const wellKnown = "/.well-known/oauth-protected-resource"

const (
	// resourceLife is how long what auth says of this resource is remembered
	// without a notice. Clients may keep it as long again.
	resourceLife = 5 * time.Minute
	// resourceRetry is how soon auth is asked again when it did not answer.
	resourceRetry = time.Second
)

// resource is what clients are told of this server, as auth has it. It never
// changes. Nil stands for a server of which nothing is known. Where no OAuth token
// is good it has no document and no URL, and the algorithms are for API keys.
type resource struct {
	document []byte // the metadata, in JSON
	path     string // of the metadata besides those that are always served
	url      string // of the metadata
	scopes   []string
	proofs   string // algorithms of DPoP
}

func (r *resource) metadataURL() string {
	if r == nil {
		return ""
	}
	return r.url
}

func (r *resource) challengeScopes() []string {
	if r == nil {
		return nil
	}
	return r.scopes
}

func (r *resource) proofAlgorithms() string {
	if r == nil {
		return ""
	}
	return r.proofs
}

// bindsTokens reports whether OAuth tokens can be bound by DPoP.
func (r *resource) bindsTokens() bool { return r.metadataURL() != "" && r.proofs != "" }

// metadata is the document of RFC 9728.
type metadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers,omitempty"`
	ScopesSupported      []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	Name                 string   `json:"resource_name,omitempty"`
	Documentation        string   `json:"resource_documentation,omitempty"`
	CertificateBound     bool     `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	ProofAlgorithms      []string `json:"dpop_signing_alg_values_supported,omitempty"`
	ProofRequired        bool     `json:"dpop_bound_access_tokens_required,omitempty"`
}

// newResource prepares what auth has said. Certificates tells whether this edge
// asks its clients for certificates, so that tokens can be bound to them.
func newResource(said *authv1.DescribeResourceResponse, certificates bool) (*resource, error) {
	proofs := scopeText(said.GetDpopAlgorithms()) // they are joined alike
	if said.GetResource() == "" {
		return &resource{proofs: proofs}, nil
	}
	u, err := url.Parse(said.GetResource())
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the resource that auth describes is no URL")
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(metadata{
		Resource: said.GetResource(), AuthorizationServers: said.GetAuthorizationServers(),
		ScopesSupported: said.GetScopesSupported(), BearerMethods: []string{"header"},
		Name: said.GetResourceName(), Documentation: said.GetDocumentation(), CertificateBound: certificates,
		ProofAlgorithms: said.GetDpopAlgorithms(), ProofRequired: said.GetDpopRequired(),
	}); err != nil {
		return nil, fmt.Errorf("write the metadata: %w", err)
	}
	path := wellKnown + strings.TrimSuffix(u.EscapedPath(), "/")
	r := &resource{
		document: bytes.TrimSpace(b.Bytes()), path: path, scopes: slices.Clone(said.GetChallengeScopes()),
		url:    u.Scheme + "://" + u.Host + path,
		proofs: proofs,
	}
	if !quotable(r.url, false) {
		return nil, errors.New("the resource that auth describes cannot be written in a challenge")
	}
	return r, nil
}

// described remembers what auth says of this resource. However many requests want
// to know, auth is asked by one of them at a time, and not again at once when it
// has not answered.
type described struct {
	ask func(ctx context.Context) (*resource, error)

	mu     sync.Mutex
	known  bool
	now    *resource
	again  time.Time     // when to ask again; before, what is known holds
	asking chan struct{} // closed when whoever asks has the answer; nil if nobody does
	stale  bool          // a notice came while somebody was asking
}

var errNotDescribed = errors.New("auth has not said what this resource is")

// Get returns what is known, or asks. What is known is returned as well when auth
// does not answer just now.
func (d *described) Get(ctx context.Context) (*resource, error) {
	d.mu.Lock()
	for {
		now := time.Now()
		wait := d.asking
		switch {
		case now.Before(d.again), d.known && wait != nil:
			defer d.mu.Unlock()
			if !d.known {
				return nil, errNotDescribed
			}
			return d.now, nil
		case wait == nil:
			d.refresh(ctx)
			continue
		}
		d.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		d.mu.Lock()
	}
}

// refresh asks auth, with the lock held before and after. The client who made it
// necessary may go away; others wait for the answer.
func (d *described) refresh(ctx context.Context) {
	done := make(chan struct{})
	d.asking, d.stale = done, false
	d.mu.Unlock()
	said, err := d.ask(context.WithoutCancel(ctx))
	d.mu.Lock()
	d.asking = nil
	close(done)
	d.again = time.Now().Add(resourceRetry)
	if err != nil {
		return
	}
	d.known, d.now = true, said
	if !d.stale {
		d.again = time.Now().Add(resourceLife)
	}
}

// Stale has auth asked again by the next who wants to know: it may have been
// configured anew.
func (d *described) Stale() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.again, d.stale = time.Time{}, true
}

// describe asks auth what this resource is.
func (s *Service) describe(ctx context.Context) (*resource, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PeerTimeout)
	defer cancel()
	said, err := s.auth.DescribeResource(ctx, &authv1.DescribeResourceRequest{})
	if status.Code(err) == codes.Unimplemented {
		return nil, nil // an auth of an earlier version, which takes no OAuth tokens
	}
	if err == nil {
		var r *resource
		if r, err = newResource(said, s.cfg.TLSClientCA != ""); err == nil {
			return r, nil
		}
	}
	s.log.WarnContext(ctx, "auth does not say what this resource is; challenges do not tell where to get tokens", "err", err)
	return nil, err
}

// aboutResource is what a challenge can say of where to get tokens.
func (x *exchange) aboutResource() *resource {
	r, err := x.s.described.Get(x.wanted())
	if err != nil {
		return nil
	}
	return r
}
