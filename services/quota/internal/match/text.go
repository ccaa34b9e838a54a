package match

import "net/netip"

// Text is the value as it counts, for people: of an address its network.
func (f Field) Text(value string) string {
	addr, err := netip.ParseAddr(value)
	if f.bits == 0 || err != nil {
		return value
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	network, _ := addr.Prefix(f.bits) // from 1 to 128, as NewField has seen
	return network.String()
}
