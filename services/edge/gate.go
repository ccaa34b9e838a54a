package edge

import (
	"mime"
	"net/http"
	"strings"
)

// gate holds the names this server goes by, against pages of other sites that
// make a browser call it (DNS rebinding, cross-site requests). It fails closed:
// what is not listed is refused.
type gate struct {
	hosts   map[string]bool // lower case; with a port where one was given
	origins map[string]bool // lower case
}

func newGate(hosts, origins []string) gate {
	g := gate{hosts: make(map[string]bool), origins: make(map[string]bool)}
	for _, h := range hosts {
		g.hosts[strings.ToLower(h)] = true
	}
	for _, o := range origins {
		g.origins[strings.ToLower(o)] = true
	}
	return g
}

// hostAllowed judges the Host header, or :authority.
func (g gate) hostAllowed(host string) bool {
	if g.hosts[host] {
		return true
	}
	host = strings.ToLower(host)
	return g.hosts[host] || g.hosts[withoutPort(host)]
}

func withoutPort(host string) string {
	colon := strings.LastIndexByte(host, ':')
	if colon < 0 || strings.HasSuffix(host, "]") {
		return host
	}
	for _, c := range host[colon+1:] {
		if c < '0' || c > '9' {
			return host
		}
	}
	return host[:colon]
}

// originAllowed judges the Origin header. None is fine: only browsers send it. A
// page of this very server is fine too, since the host was judged before.
func (g gate) originAllowed(lines []string, host string) bool {
	switch len(lines) {
	case 0:
		return true
	case 1:
	default:
		return false
	}
	origin := strings.ToLower(lines[0])
	if g.origins[origin] {
		return true
	}
	// Browsers write the host as they do in Host: without the scheme's own port.
	host = strings.ToLower(host)
	return host != "" && (origin == "http://"+host || origin == "https://"+host)
}

// jsonBody reports whether the headers announce plain JSON: nothing compressed,
// nothing that a form on some page could send.
func jsonBody(h http.Header) bool {
	if _, coded := h["Content-Encoding"]; coded {
		return false
	}
	types := h["Content-Type"]
	if len(types) != 1 {
		return false
	}
	if types[0] == "application/json" {
		return true
	}
	kind, params, err := mime.ParseMediaType(types[0])
	if err != nil || kind != "application/json" {
		return false
	}
	charset, ok := params["charset"]
	return !ok || strings.EqualFold(charset, "utf-8")
}
