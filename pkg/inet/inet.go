// Package inet tells addresses of the public internet from others, for those who
// connect to where somebody else says. It fails closed: what is not known to be
// public is not.
package inet

import "net/netip"

// Public reports whether an address is one of the public internet: neither of this
// machine, of a link or of a private network, nor of a range that nobody routes, nor
// one that stands for an IPv4 address and so for any of them. An IPv4 address that is
// written as one of IPv6 is what it is as one of IPv4.
func Public(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || Never(a) {
		return false
	}
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"240.0.0.0/4", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
		"5f00::/16", "fec0::/10",
	} {
		if netip.MustParsePrefix(s).Contains(a) {
			return false
		}
	}
	return true
}

// Never reports whether an address is none to connect to, whatever anybody has
// allowed: one of a link, as those of cloud metadata are, of many machines or of
// none.
func Never(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
