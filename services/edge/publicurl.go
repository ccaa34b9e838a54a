package edge

import (
	"net/http"
	"net/url"
	"strings"
)

// publicURL is how clients write the address of this server, without the path of
// an endpoint. It is empty where that is not known.
type publicURL struct{ base string }

// newPublicURL reads the setting, which Validate has checked.
func newPublicURL(text string) publicURL { return publicURL{strings.TrimSuffix(text, "/")} }

// of returns the URL of a request as its client has written it, without query. A
// proof of DPoP is good for that one only. What is not configured is taken from
// the request: the host, which the gate has let through, and whether this
// connection is TLS. No header of a proxy is believed; behind one that ends TLS
// proofs do not fit until public_url is set.
func (p publicURL) of(r *http.Request) string {
	if p.base != "" {
		return p.base + r.URL.Path
	}
	scheme, port := "http", ":80"
	if r.TLS != nil {
		scheme, port = "https", ":443"
	}
	return scheme + "://" + strings.TrimSuffix(strings.ToLower(r.Host), port) + r.URL.Path
}

// publicURLFault says what is wrong with the setting, if anything.
func publicURLFault(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http", u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return "is not a URL such as https://mcp.example.com"
	case strings.ToLower(u.Host) != u.Host:
		return "has to have its host in lower case"
	case strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/mcp"):
		return "is the address of the server, without /mcp"
	}
	return ""
}
