package edge

import (
	"net/http"
	"strings"
	"time"
)

// serveMetadata answers GET /.well-known/oauth-protected-resource and its forms
// with a path: where OAuth clients get tokens for this server. It needs no
// credential, since it is how one gets one, and tells nothing else.
func (x *exchange) serveMetadata() *refusal {
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		x.w.Header()["Allow"] = x.s.words.headers.allowGet
		return &refusal{kind: kindHTTPMethod, message: "This is served by GET only", recorded: true}
	}
	if refused := x.checkGate(); refused != nil {
		return refused
	}
	about, err := x.s.described.Get(x.wanted())
	if err != nil {
		refused := refuse(kindPeer, "The service that knows of this is not available just now. Try again in a moment")
		refused.retryAfter, refused.retryable, refused.recorded = time.Second, true, true
		return refused
	}
	if about == nil || about.document == nil || !about.at(x.r.URL.Path) {
		return &refusal{kind: kindPath, message: "There is nothing here; OAuth tokens are not used, or not for this path", recorded: true}
	}
	x.w.Header()["Cache-Control"] = x.s.words.headers.metadata
	x.out = append(x.out[:0], about.document...)
	x.write(http.StatusOK, x.s.words.headers.json)
	return nil
}

// at reports whether the metadata is served at a path: the plain form, that of
// the endpoint, and that of the resource as it is configured, which a proxy may
// have at another path.
func (r *resource) at(path string) bool {
	return path == wellKnown || path == wellKnown+"/mcp" || path == r.path
}

// metadataPath reports whether a path may be one of the metadata.
func metadataPath(path string) bool {
	rest, ok := strings.CutPrefix(path, wellKnown)
	return ok && (rest == "" || rest[0] == '/')
}
