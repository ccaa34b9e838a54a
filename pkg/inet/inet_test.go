package inet_test

import (
	"net/netip"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/inet"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	const (
		public = iota
		private
		never
	)
	tests := map[string]int{
		"93.184.216.34": public, "1.1.1.1": public, "2606:2800:220:1::1": public, "::ffff:1.1.1.1": public, "172.32.0.1": public,
		"127.0.0.1": private, "127.8.8.8": private, "::1": private, "::ffff:127.0.0.1": private, "10.1.2.3": private, "::ffff:10.0.0.1": private,
		"172.16.0.1": private, "172.31.255.255": private, "192.168.1.1": private, "100.64.0.1": private, "100.127.255.255": private,
		"192.0.0.8": private, "192.0.2.1": private, "198.18.0.1": private, "198.51.100.1": private, "203.0.113.1": private, "240.0.0.1": private,
		"0.1.2.3": private, "192.88.99.1": private, "fd00::1": private, "fc00::1": private, "fec0::1": private, "::7f00:1": private,
		"64:ff9b::7f00:1": private, "64:ff9b::1.1.1.1": private, "64:ff9b:1::1": private, "2002:7f00:1::": private, "2001::1": private,
		"2001:db8::1": private, "100::1": private, "3fff::1": private, "5f00::1": private,
		"169.254.169.254": never, "::ffff:169.254.169.254": never, "fe80::1": never, "fe80::1%eth0": never, "0.0.0.0": never, "::": never,
		"::ffff:0.0.0.0": never, "224.0.0.1": never, "255.255.255.255": never, "ff02::1": never,
	}
	for text, want := range tests {
		a := netip.MustParseAddr(text)
		if got := inet.Public(a); got != (want == public) {
			t.Errorf("%s: public %v, want %v", text, got, want == public)
		}
		if got := inet.Never(a); got != (want == never) {
			t.Errorf("%s: never %v, want %v", text, got, want == never)
		}
	}
	if inet.Public(netip.Addr{}) || !inet.Never(netip.Addr{}) {
		t.Error("no address is one to connect to")
	}
}
