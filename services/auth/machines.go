package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// Machine is a caller without a token: the edge has verified its TLS certificate.
type Machine struct {
	// SPIFFEID is the id in the certificate, or with "/*" at its end all below it.
	SPIFFEID string   `yaml:"spiffe_id"`
	Roles    []string `yaml:"roles"`
	// Tenant is "default" when empty.
	Tenant string `yaml:"tenant"`
	Owner  string `yaml:"owner"`
	Name   string `yaml:"name"`
}

// maxPrincipal is what the contract has room for.
const maxPrincipal = 256

func (c Config) validateMachines() error {
	var errs []error
	seen := make(map[string]bool)
	for i, m := range c.Machines {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("machines[%d].%w", i, fmt.Errorf(format, args...)))
		}
		if id := strings.TrimSuffix(m.SPIFFEID, "/*"); !strings.HasPrefix(id, "spiffe://") || strings.ContainsAny(id, "*?# ") ||
			len(id) <= len("spiffe://") || len(m.SPIFFEID) > maxPrincipal {
			bad("spiffe_id: %q is not spiffe://DOMAIN/PATH, or such a thing with /* at its end", m.SPIFFEID)
		}
		if seen[m.SPIFFEID] {
			bad("spiffe_id: %q is there twice", m.SPIFFEID)
		}
		seen[m.SPIFFEID] = true
		if len(m.Roles) == 0 || len(m.Roles) > 32 {
			bad("roles: %d, and 1 to 32 are taken", len(m.Roles))
		}
		for _, r := range m.Roles {
			if !isRole(r) {
				bad("roles: %q is no role", r)
			}
		}
		if len(m.Owner) > 128 || len(m.Name) > 128 || len(m.Tenant) > 63 {
			bad("owner, name or tenant: too long")
		}
	}
	return errors.Join(errs...)
}

func isRole(s string) bool {
	for i := range len(s) {
		letter, more := s[i] >= 'a' && s[i] <= 'z', s[i] >= '0' && s[i] <= '9' || s[i] == '-' || s[i] == '_'
		if !letter && (i == 0 || !more) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// machines tells who has a certificate.
type machines struct {
	exact    map[string]Machine
	prefixes []Machine // the longest first

	mu    sync.Mutex
	known map[string]*caller // without an end; bounded like tokens
}

func newMachines(list []Machine) *machines {
	m := &machines{exact: make(map[string]Machine), known: make(map[string]*caller)}
	for _, one := range list {
		if strings.HasSuffix(one.SPIFFEID, "/*") {
			one.SPIFFEID = strings.TrimSuffix(one.SPIFFEID, "*")
			m.prefixes = append(m.prefixes, one)
			continue
		}
		m.exact[one.SPIFFEID] = one
	}
	slices.SortFunc(m.prefixes, func(a, b Machine) int { return len(b.SPIFFEID) - len(a.SPIFFEID) })
	return m
}

// find returns the caller with an id, good until a time, or why there is none.
func (m *machines) find(id string, until time.Time) (*caller, auditv1.Reason) {
	if id == "" || len(id) > maxPrincipal {
		return nil, auditv1.Reason_REASON_CREDENTIAL_MALFORMED
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.known[id]
	if c == nil {
		one, ok := m.exact[id]
		if !ok {
			i := slices.IndexFunc(m.prefixes, func(p Machine) bool { return strings.HasPrefix(id, p.SPIFFEID) && len(id) > len(p.SPIFFEID) })
			if i < 0 {
				return nil, auditv1.Reason_REASON_CREDENTIAL_UNKNOWN
			}
			one = m.prefixes[i]
		}
		c = ofMachine(id, one)
		if len(m.known) >= maxTokens {
			clear(m.known)
		}
		m.known[id] = c
	}
	lasting := *c
	lasting.validUntil = until
	return &lasting, 0
}

func ofMachine(id string, m Machine) *caller {
	tenant := m.Tenant
	if tenant == "" {
		tenant = defaultTenant
	}
	p := &authv1.Principal{
		Id: id, Owner: m.Owner, Name: m.Name, Tenant: tenant, Roles: slices.Sorted(slices.Values(m.Roles)),
	}
	return &caller{principal: p, subject: policy.NewSubject(p, nil)}
}
