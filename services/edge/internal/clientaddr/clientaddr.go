// Package clientaddr tells which address a request really came from.
//
// The socket's peer is the truth, unless it is a proxy that the operator named.
// Only then is X-Forwarded-For read, and of it only what such proxies wrote: from
// the right, up to the first address that is not one of theirs. Anything a
// client can write into the header by itself is to the left of that.
package clientaddr

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// maxHops is how many entries of X-Forwarded-For are looked at. No honest chain
// of proxies is longer.
const maxHops = 32

// Resolver knows which peers are proxies. The zero value trusts none.
type Resolver struct {
	trusted []netip.Prefix
}

// New returns a resolver that trusts the given proxies, each an address or a
// network in CIDR notation. All mistakes are reported at once.
func New(proxies []string) (*Resolver, error) {
	r := &Resolver{}
	var errs []error
	for _, text := range proxies {
		prefix, err := parsePrefix(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", text))
			continue
		}
		r.trusted = append(r.trusted, prefix)
	}
	return r, errors.Join(errs...)
}

func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = canonical(addr)
		return addr.Prefix(addr.BitLen())
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return prefix, err
	}
	if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
		return addr.Unmap().Prefix(prefix.Bits() - 96)
	}
	return prefix.Masked(), nil
}

// Resolve returns the address of the client, given the socket's peer
// ("address:port") and all lines of X-Forwarded-For. It returns the zero Addr if
// the peer is not an IP address. IPv4 in IPv6 becomes IPv4, and zones are cut.
func (r *Resolver) Resolve(peer string, forwarded []string) netip.Addr {
	ap, err := netip.ParseAddrPort(peer)
	if err != nil {
		return netip.Addr{}
	}
	addr := canonical(ap.Addr())
	if len(forwarded) == 0 {
		return addr
	}
	hops := 0
	for i := len(forwarded) - 1; i >= 0; i-- {
		rest := forwarded[i]
		for more := true; more; hops++ {
			if hops == maxHops || !r.Trusts(addr) {
				return addr
			}
			var entry string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, entry = rest[:comma], rest[comma+1:]
			} else {
				entry, more = rest, false
			}
			next, ok := parseEntry(entry)
			if !ok {
				// What the trusted proxy wrote is no address. Going further left
				// would mean to believe the client, so this proxy is the answer.
				return addr
			}
			addr = next
		}
	}
	return addr
}

// Trusts reports whether an address is that of a trusted proxy.
func (r *Resolver) Trusts(addr netip.Addr) bool {
	for _, p := range r.trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// parseEntry reads one entry: an address, possibly in brackets, possibly with a
// port.
func parseEntry(entry string) (netip.Addr, bool) {
	entry = strings.Trim(entry, " \t")
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]")); err == nil {
		return canonical(addr), true
	}
	if ap, err := netip.ParseAddrPort(entry); err == nil {
		return canonical(ap.Addr()), true
	}
	return netip.Addr{}, false
}

func canonical(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
