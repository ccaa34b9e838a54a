package edge

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"go.opentelemetry.io/otel/trace"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/session"
)

// exchange is one request and its answer, with what has been learned of it so
// far. Exchanges are reused, with their buffers; messages to peers are not, since
// a peer in this process may still read one after the call was given up.
type exchange struct {
	s       *Service
	scanner *jsonrpc.Scanner
	body    []byte
	out     []byte
	msg     jsonrpc.Message
	rested  *stream // of an earlier request, to be used again

	facts
}

// facts are the part of an exchange that starts empty.
type facts struct {
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context // the request's, with the span; not for after the answer
	peers context.Context // bounds several calls to peers together; nil for each by itself
	start time.Time
	plain bool // errors are problem+json: the caller is no MCP client

	address    netip.Addr
	addressed  string // the address as text, once it was needed
	credential *authv1.Credential
	cacheKey   authKey
	principal  *authv1.Principal

	era     era
	version string
	id      []byte // raw JSON, nil while not known
	said    string // the method as the client named it
	method  string // the same if it is served, else ""
	asked   string // the tool, prompt or URI that was asked for, once it is to be decided about
	target  string // the same, once it may be known to exist
	client  string
	context string
	source  authv1.ContextSource
	task    []string // tools that the client's task needs; none: all
	hops    uint32

	decision string
	shape    string
	digest   []byte
	limits   []*quotav1.LimitState
	units    []string // that the call is expected to use and a quota counts
	booking  booking
	approval string          // id of the approval that the call needs, once it is known
	answer   *approvalAnswer // what a modern client brings from its user

	session    *session.Session // of the legacy era, if there is one
	response   bool             // the message answers a request of ours
	work       context.Context  // of a legacy request in a session: ends when its client cancels it
	level      int              // from which on notices are wanted
	levelKnown bool

	stream  *stream // nil while the answer can only be one JSON object
	span    trace.Span
	early   bool // the span was started before the body was read
	written bool
	// consumed means that the body was read to its end.
	consumed bool
	outcome  outcome
	reason   auditv1.Reason
	code     int
}

// era is which generation of the protocol a request speaks.
type era int

const (
	eraUnknown era = iota
	eraModern      // 2026-07-28: each request stands alone
	eraLegacy      // 2025-11-25 and 2025-06-18: initialize first
)

// keepBuffer is how large a buffer may be to be kept for the next request. A page of a
// hundred tools with their schemas has about 64 KiB.
const keepBuffer = 128 << 10

func newExchange(s *Service) *exchange {
	return &exchange{s: s, scanner: jsonrpc.NewScanner(strictjson.DefaultLimits())}
}

func (s *Service) acquire(w http.ResponseWriter, r *http.Request) *exchange {
	x, ok := s.exchanges.Get().(*exchange)
	if !ok {
		x = newExchange(s) // the pool holds nothing else, so this is not reached
	}
	x.facts = facts{w: w, r: r, ctx: r.Context(), start: time.Now()}
	x.address = s.addresses.Resolve(r.RemoteAddr, r.Header["X-Forwarded-For"])
	return x
}

func (s *Service) release(x *exchange) {
	x.facts = facts{}
	x.msg.Reset()
	if cap(x.body) > keepBuffer {
		x.body = nil
	}
	if cap(x.out) > keepBuffer {
		x.out = nil
	}
	s.exchanges.Put(x)
}

// addressText is the client's address as peers and records see it.
func (x *exchange) addressText() string {
	if x.addressed == "" && x.address.IsValid() {
		x.addressed = x.address.String()
	}
	return x.addressed
}

// origin is what auth is told of the request.
func (x *exchange) origin() *authv1.Origin {
	return &authv1.Origin{
		Address: x.addressText(), Client: x.client, ProtocolVersion: x.version,
		ContextId: x.context, ContextSource: x.source, Hops: x.hops,
	}
}

// peerContext bounds a call to a peer other than the executor.
func (x *exchange) peerContext() (context.Context, context.CancelFunc) {
	if x.peers != nil {
		return x.peers, func() {}
	}
	return context.WithTimeout(x.wanted(), x.s.cfg.PeerTimeout)
}
