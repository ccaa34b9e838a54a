package edge_test

import (
	"net"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/edge"
)

// A page of another site can make a browser send requests here: under a name
// that it lets point to us (Host), or from its own origin (Origin). Neither is
// served, whatever way the names are written in. PORT is ours.
func TestHostileRebinding(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		host   string // "" sends none
		origin string // "" sends none
		status int
	}{
		{"our name and port", "localhost:PORT", "", 200},
		{"our name", "localhost", "", 200},
		{"our name and another port, as behind a proxy", "localhost:80", "", 200},
		{"our name in capitals", "LocalHost", "", 200},
		{"our name and an empty port", "localhost:", "", 200},
		{"our address", "127.0.0.1:PORT", "", 200},
		{"our address of IPv6", "[::1]:PORT", "", 200},
		{"our address of IPv6 without a port", "[::1]", "", 200},
		{"a name with a port of its own", "only.example.com:8443", "", 200},
		{"a name with a port of its own, and another", "only.example.com:443", "", 403},
		{"a name with a port of its own, and none", "only.example.com", "", 403},

		{"no host", "", "", 400},
		{"an empty host", " ", "", 403},
		{"another name", "evil.example.com", "", 403},
		{"another name and our port", "evil.example.com:PORT", "", 403},
		{"our name with a dot at the end", "localhost.", "", 403},
		{"our name with a dot and a port", "localhost.:PORT", "", 403},
		{"our name as a domain", "evil.localhost", "", 403},
		{"our name under another", "localhost.evil.example.com", "", 403},
		{"our name as part of another", "notlocalhost", "", 403},
		{"our address under another name", "127.0.0.1.evil.example.com", "", 403},
		{"another address of this machine", "127.0.0.2", "", 403},
		{"no address in particular", "0.0.0.0", "", 403},
		{"our address, abbreviated", "127.1", "", 403},
		{"our address as a number", "2130706433", "", 403},
		{"our address in octal", "0177.0.0.1", "", 403},
		{"our address in hexadecimal", "0x7f.0.0.1", "", 403},
		{"our address of IPv6 in full", "[0:0:0:0:0:0:0:1]", "", 403},
		{"our address of IPv6 without brackets", "::1", "", 403},
		{"our address of IPv6 with a zone", "[::1%25lo]", "", 403},
		{"our address of IPv6 without an end", "[::1", "", 403},
		{"our address of IPv6 and more", "[::1].evil.example.com", "", 403},
		{"our address in IPv6", "[::ffff:127.0.0.1]", "", 403},
		{"our name as user", "localhost@evil.example.com", "", 400},
		{"our name as user, with a port", "localhost:80@evil.example.com", "", 400},
		{"a user before our name", "evil@localhost", "", 400},
		{"two ports", "localhost:80:80", "", 403},
		{"a port that is a name", "localhost:http", "", 403},
		{"a negative port", "localhost:-1", "", 403},
		{"a path after our name", "localhost/evil", "", 400},
		{"a list of names", "localhost, evil.example.com", "", 400},
		{"an escape in our name", "local%68ost", "", 403},
		{"a letter of another script that looks like ours", "l\xd0\xbecalhost", "", 400},
		{"a letter that folds to ours", "local\xc5\xbfost", "", 400},
		{"a NUL after our name", "localhost\x00", "", 400},
		{"two names on two lines", "localhost\r\nHost: evil.example.com", "", 400},
		{"our name twice", "localhost\r\nHost: localhost", "", 400},
		{"a name for proxies", "evil.example.com\r\nX-Forwarded-Host: localhost", "", 403},
		{"another name for proxies is not looked at", "localhost\r\nX-Forwarded-Host: evil.example.com\r\nForwarded: host=evil.example.com", "", 200},

		{"a page of this server", "localhost:PORT", "http://localhost:PORT", 200},
		{"a page of this server behind TLS", "localhost:PORT", "https://localhost:PORT", 200},
		{"a page of this server in capitals", "localhost:PORT", "HTTP://LOCALHOST:PORT", 200},
		{"a page that the operator allows", "localhost:PORT", "https://app.example.com", 200},
		{"a page that the operator allows, in capitals", "localhost:PORT", "https://App.Example.com", 200},
		{"a page that the operator allows, without TLS", "localhost:PORT", "http://app.example.com", 403},
		{"a page that the operator allows, on another port", "localhost:PORT", "https://app.example.com:8443", 403},
		{"a page that the operator allows, with a dot at the end", "localhost:PORT", "https://app.example.com.", 403},
		{"a page below one that the operator allows", "localhost:PORT", "https://evil.app.example.com", 403},
		{"a page whose name ends like one that is allowed", "localhost:PORT", "https://notapp.example.com", 403},
		{"a page whose name begins like one that is allowed", "localhost:PORT", "https://app.example.com.evil.example.com", 403},
		{"another page", "localhost:PORT", "http://evil.example.com", 403},
		{"another page on our port", "localhost:PORT", "http://evil.example.com:PORT", 403},
		{"a page of this machine on another port", "localhost:PORT", "http://localhost:3000", 403},
		{"a page of this machine without a port", "localhost:PORT", "http://localhost", 403},
		{"a page of this machine under another of its names", "localhost:PORT", "http://127.0.0.1:PORT", 403},
		{"our name with a dot as origin", "localhost:PORT", "http://localhost.:PORT", 403},
		{"our name as user of an origin", "localhost:PORT", "http://localhost:PORT@evil.example.com", 403},
		{"a user of our name as origin", "localhost:PORT", "http://evil@localhost:PORT", 403},
		{"our origin and a path", "localhost:PORT", "http://localhost:PORT/", 403},
		{"our origin and a query", "localhost:PORT", "http://localhost:PORT?evil", 403},
		{"our port as the beginning of a name", "localhost:PORT", "http://localhost:PORT.evil.example.com", 403},
		{"our origin after a backslash", "localhost:PORT", `http://evil.example.com\@localhost:PORT`, 403},
		{"no origin in particular", "localhost:PORT", "null", 403},
		{"an empty origin", "localhost:PORT", " ", 403},
		{"our name without a scheme", "localhost:PORT", "localhost:PORT", 403},
		{"our name after two slashes", "localhost:PORT", "//localhost:PORT", 403},
		{"a file", "localhost:PORT", "file://localhost:PORT", 403},
		{"an extension", "localhost:PORT", "chrome-extension://localhost:PORT", 403},
		{"two origins in one line", "localhost:PORT", "http://localhost:PORT http://evil.example.com", 403},
		{"two origins in two lines", "localhost:PORT", "http://localhost:PORT\r\nOrigin: http://evil.example.com", 403},
		{"our origin twice", "localhost:PORT", "http://localhost:PORT\r\nOrigin: http://localhost:PORT", 403},

		{"a page under a name that points to us", "evil.example.com:PORT", "http://evil.example.com:PORT", 403},
		{"the same under our name with a dot", "localhost.:PORT", "http://localhost.:PORT", 403},
		{"the same under a name that contains ours", "localhost.evil.example.com", "http://localhost.evil.example.com", 403},
		{"the same from a page that is allowed", "evil.example.com", "https://app.example.com", 403},
	}
	w := newWorld(t, func(o *edge.Options) {
		o.Config.AllowedHosts = append(o.Config.AllowedHosts, "only.example.com:8443")
		o.Config.AllowedOrigins = []string{"https://app.example.com"}
	})
	_, port, err := net.SplitHostPort(w.edge.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var attacks []attack
	for _, tt := range tests {
		request := post("", pingBody)
		lines := ""
		if tt.host != "" {
			lines += "Host: " + tt.host + "\r\n"
		}
		if tt.origin != "" {
			lines += "Origin: " + tt.origin + "\r\n"
		}
		request = strings.Replace(request, "Host: localhost\r\n", strings.ReplaceAll(lines, "PORT", port), 1)
		want := told{status: tt.status}
		if tt.status == 403 {
			want.code = -31403
		}
		attacks = append(attacks, attack{tt.name, request, []told{want}, tt.status == 200})
	}
	runAttacks(t, w, attacks)
}
