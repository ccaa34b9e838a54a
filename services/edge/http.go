package edge

import (
	"errors"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"time"
)

// Header values that never change; net/http does not write to them.
type fixedHeaders struct {
	json, problem, events, nosniff, noStore, unbuffered, closing []string

	allowPost, allowGet, allowStream, metadata []string
}

func newFixedHeaders() fixedHeaders {
	return fixedHeaders{
		json: []string{"application/json"}, problem: []string{"application/problem+json"}, events: []string{"text/event-stream"},
		nosniff: []string{"nosniff"}, noStore: []string{"no-store"}, unbuffered: []string{"no"}, closing: []string{"close"},
		allowPost: []string{http.MethodPost}, allowGet: []string{http.MethodGet + ", " + http.MethodHead},
		allowStream: []string{http.MethodGet + ", " + http.MethodPost},
		metadata:    []string{"public, max-age=" + strconv.Itoa(int(resourceLife.Seconds()))},
	}
}

// ServeHTTP implements [http.Handler].
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["X-Content-Type-Options"] = s.words.headers.nosniff
	h["Cache-Control"] = s.words.headers.noStore
	if ambiguous(r) {
		h["Connection"] = s.words.headers.closing
	}

	x := s.acquire(w, r)
	defer s.release(x)
	defer x.endStream()
	defer x.recover()
	switch r.URL.Path {
	case "/mcp":
		refused := x.serveMCP()
		if refused != nil {
			x.answerRefusal(refused)
		}
		x.finish()
	case "/ping":
		x.plain = true
		if refused := x.servePing(); refused != nil {
			x.answerRefusal(refused)
		}
		if x.span != nil { // started to authenticate; a ping itself is not worth one
			x.span.SetName("GET /ping")
			x.span.End()
		}
	default:
		x.plain = true
		if metadataPath(r.URL.Path) {
			if refused := x.serveMetadata(); refused != nil {
				x.answerRefusal(refused)
			}
			return
		}
		x.answerRefusal(&refusal{kind: kindPath, message: "There is nothing here; MCP is at POST /mcp", recorded: true})
	}
}

// ambiguous reports whether something before us may see another end of this
// request than we do. Net/http goes by the chunks where there is a length too,
// ignores them in HTTP/1.0, and tells of neither; RFC 9112, 6.1, wants such a
// connection closed, since what follows may be smuggled. So the connection ends
// with every request whose length was not simply announced; and with CONNECT,
// after which whoever let it through may take the rest for a tunnel.
func ambiguous(r *http.Request) bool {
	return r.ProtoMajor == 1 &&
		(len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) || r.Method == http.MethodConnect)
}

// recover is what package rpc's Recover is for gRPC: a bug in one request is
// logged, once and with its stack, and the caller learns nothing of it.
func (x *exchange) recover() {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	x.s.log.Error("panic in a request", "panic", p, "stack", string(debug.Stack()))
	x.answerRefusal(refuse(kindInternal, internalMessage))
	x.finish()
}

const internalMessage = "Something broke here, and it is not the caller's fault. Report the decision id to whoever runs this server"

// serveMCP takes a request through all checks in the order that lets the least
// trusted cost the least.
func (x *exchange) serveMCP() *refusal {
	if x.wantsStream() {
		return x.serveStream()
	}
	if x.r.Method != http.MethodPost {
		return x.refuseHTTPMethod()
	}
	if refused := x.checkGate(); refused != nil {
		return refused
	}
	if !jsonBody(x.r.Header) {
		return refuse(kindMediaType, "Send the body as Content-Type: application/json, not encoded")
	}
	if refused := x.authenticate(); refused != nil {
		return refused
	}
	if refused := x.readBody(); refused != nil {
		return refused
	}
	if refused := x.parse(); refused != nil {
		return refused
	}
	if refused := x.findSession(); refused != nil {
		return refused
	}
	if x.response {
		return x.takeAnswer()
	}
	return x.dispatch()
}

// maxHeaderLines bounds the lines of headers. Parsed, very short ones take many
// times the bytes that were sent.
const maxHeaderLines = 128

func tooManyLines(h http.Header) bool {
	lines := 0
	for _, values := range h {
		lines += len(values)
	}
	return lines > maxHeaderLines
}

func (x *exchange) checkGate() *refusal {
	if tooManyLines(x.r.Header) {
		return refuse(kindHeaders, "The request has too many headers. Send fewer")
	}
	// Under HTTP/2 a whole URL can stand for the path, with a name of its own.
	if !x.s.gate.hostAllowed(x.r.Host) || x.r.URL.Host != "" && x.r.URL.Host != x.r.Host {
		return refuse(kindOrigin, "The Host header names a server this is not. "+
			"Use an address of this server, or have its operator add the name to roles.edge.allowed_hosts")
	}
	if !x.s.gate.originAllowed(x.r.Header["Origin"], x.r.Host) {
		return refuse(kindOrigin, "Pages of this origin may not call this server. "+
			"Its operator can add the origin to roles.edge.allowed_origins")
	}
	return nil
}

// servePing answers GET /ping: whether a credential is good.
func (x *exchange) servePing() *refusal {
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		x.w.Header()["Allow"] = x.s.words.headers.allowGet
		return &refusal{kind: kindHTTPMethod, message: "/ping is served by GET only", recorded: true}
	}
	if refused := x.checkGate(); refused != nil {
		return refused
	}
	if refused := x.authenticate(); refused != nil {
		return refused
	}
	x.out = append(x.out[:0], `{"message":"pong"}`...)
	x.write(http.StatusOK, x.s.words.headers.json)
	return nil
}

// firstBuffer holds most requests whole. However long a body is announced, no more
// than trustedLength is set aside for it before it comes.
const (
	firstBuffer   = 4 << 10
	trustedLength = 16 << 10
)

// readBody reads the body with a limit that holds whatever was announced.
func (x *exchange) readBody() *refusal {
	limit := x.s.cfg.MaxBodyBytes
	if x.r.ContentLength > int64(limit) {
		return x.tooLarge()
	}
	// Where deadlines are not supported the server's own timeouts hold. The server
	// lifts this one when the body has ended.
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(x.s.cfg.BodyTimeout))
	buf := x.body[:0]
	if want := min(max(int(x.r.ContentLength), firstBuffer), trustedLength) + 1; cap(buf) < want {
		buf = make([]byte, 0, want)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		room := buf[len(buf):min(cap(buf), limit+1)]
		n, err := x.r.Body.Read(room)
		buf = buf[:len(buf)+n]
		x.body = buf
		switch {
		case len(buf) > limit:
			return x.tooLarge()
		case errors.Is(err, io.EOF):
			x.consumed = true
			return nil
		case err != nil:
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return refuse(kindTooSlow, "The body did not arrive in time. Send it without pauses")
			}
			return refuse(kindSyntax, "The body broke off. Send it again")
		}
	}
}

func (x *exchange) tooLarge() *refusal {
	return refuse(kindTooLarge, "The body is larger than this server takes. Send less in one request")
}
