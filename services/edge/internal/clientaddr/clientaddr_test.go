package clientaddr_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/edge/internal/clientaddr"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		trusted   []string
		peer      string
		forwarded []string
		want      string
	}{
		{
			name: "the peer is the client when there is no header",
			peer: "192.0.2.1:4711", want: "192.0.2.1",
		}, {
			name: "a header from a peer that is no proxy of ours is ignored",
			peer: "192.0.2.1:4711", forwarded: []string{"198.51.100.7"}, want: "192.0.2.1",
		}, {
			name:    "a header from a trusted proxy is believed",
			trusted: []string{"10.0.0.0/8"}, peer: "10.1.2.3:80", forwarded: []string{"198.51.100.7"}, want: "198.51.100.7",
		}, {
			name:    "what the client wrote left of the proxy's entry is ignored",
			trusted: []string{"10.0.0.0/8"}, peer: "10.1.2.3:80", forwarded: []string{"203.0.113.9, 198.51.100.7"}, want: "198.51.100.7",
		}, {
			name:    "a chain of trusted proxies is followed",
			trusted: []string{"10.0.0.0/8"}, peer: "10.1.2.3:80", forwarded: []string{"6.6.6.6,198.51.100.7, 10.9.9.9"}, want: "198.51.100.7",
		}, {
			name:    "several lines are one list",
			trusted: []string{"10.0.0.0/8"}, peer: "10.1.2.3:80", forwarded: []string{"6.6.6.6, 198.51.100.7", "10.9.9.9"}, want: "198.51.100.7",
		}, {
			name:    "the leftmost is the client when all are proxies",
			trusted: []string{"10.0.0.0/8"}, peer: "10.1.2.3:80", forwarded: []string{"10.0.0.7, 10.9.9.9"}, want: "10.0.0.7",
		}, {
			name:    "garbage stops the walk at the proxy that passed it on",
			trusted: []string{"10.0.0.0/8"}, peer: "10.1.2.3:80", forwarded: []string{"198.51.100.7, unknown"}, want: "10.1.2.3",
		}, {
			name:    "an empty entry is garbage",
			trusted: []string{"10.0.0.0/8"}, peer: "10.1.2.3:80", forwarded: []string{"198.51.100.7,"}, want: "10.1.2.3",
		}, {
			name:    "an entry may have a port",
			trusted: []string{"10.0.0.0/8"}, peer: "10.1.2.3:80", forwarded: []string{"198.51.100.7:555"}, want: "198.51.100.7",
		}, {
			name:    "an entry may be IPv6 in brackets",
			trusted: []string{"::1"}, peer: "[::1]:80", forwarded: []string{"[2001:db8::7]:555"}, want: "2001:db8::7",
		}, {
			name: "IPv4 in IPv6 is IPv4",
			peer: "[::ffff:192.0.2.1]:4711", want: "192.0.2.1",
		}, {
			name:    "a trusted network matches IPv4 in IPv6",
			trusted: []string{"::ffff:10.0.0.0/104"}, peer: "[::ffff:10.1.2.3]:80", forwarded: []string{"::ffff:198.51.100.7"}, want: "198.51.100.7",
		}, {
			name: "a zone is cut",
			peer: "[fe80::1%eth0]:80", want: "fe80::1",
		}, {
			name:    "no more than the last entries of an endless list are read",
			trusted: []string{"10.0.0.0/8"}, peer: "10.1.2.3:80", forwarded: []string{"6.6.6.6" + strings.Repeat(",10.0.0.1", 100)}, want: "10.0.0.1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, err := clientaddr.New(tt.trusted)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Resolve(tt.peer, tt.forwarded).String(); got != tt.want {
				t.Errorf("Resolve(%q, %q): got %s, want %s", tt.peer, tt.forwarded, got, tt.want)
			}
		})
	}
}

func TestNewNamesEveryBadProxy(t *testing.T) {
	t.Parallel()
	_, err := clientaddr.New([]string{"10.0.0.0/8", "nonsense", "10.0.0.0/99"})
	if err == nil || !strings.Contains(err.Error(), "nonsense") || !strings.Contains(err.Error(), "10.0.0.0/99") {
		t.Errorf("New: got error %v, want one that names both", err)
	}
}

// Whatever the header says, an untrusted peer is the client; and the answer is
// always an address, canonical, and never one that only the client vouched for.
func FuzzResolve(f *testing.F) {
	f.Add("198.51.100.7", "10.0.0.1")
	f.Add("unknown, for=1.2.3.4", "::1")
	f.Add("[::ffff:1.2.3.4]:99,", "fe80::1%a")
	direct, err := clientaddr.New(nil)
	if err != nil {
		f.Fatal(err)
	}
	behind, err := clientaddr.New([]string{"10.0.0.0/8"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		lines := []string{first, second}
		if got := direct.Resolve("192.0.2.1:1", lines).String(); got != "192.0.2.1" {
			t.Errorf("an untrusted peer: got %s", got)
		}
		got := behind.Resolve("10.0.0.1:1", append(lines, "198.51.100.7"))
		if got.String() != "198.51.100.7" {
			t.Errorf("a client could move its address to %s", got)
		}
		got = behind.Resolve("10.0.0.1:1", lines)
		if !got.IsValid() || got.Is4In6() || got.Zone() != "" {
			t.Errorf("Resolve: got %v, want a canonical address", got)
		}
		if back, err := netip.ParseAddr(got.String()); err != nil || back != got {
			t.Errorf("Resolve: got %v, which does not read back: %v %v", got, back, err)
		}
	})
}
