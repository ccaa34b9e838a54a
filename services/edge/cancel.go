package edge

import (
	"context"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	edgev1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/edge/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// running are the requests of legacy sessions that are being served here, so
// that they can be cancelled. The zero value is ready for use.
type running struct {
	mu  sync.Mutex
	all map[requestKey]*cancellation
}

// requestKey names a request. Request ids alone tell nothing: every client
// begins to count at 0.
type requestKey struct{ session, id string }

type cancellation struct{ cancel context.CancelFunc }

// Add lets a request be cancelled until done is called. Where a client uses an
// id twice at once, the later request counts.
func (r *running) Add(key requestKey, cancel context.CancelFunc) (done func()) {
	c := &cancellation{cancel}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[requestKey]*cancellation)
	}
	r.all[key] = c
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.all[key] == c {
			delete(r.all, key)
		}
		cancel()
	}
}

// Cancel cancels a request and reports whether it was here.
func (r *running) Cancel(key requestKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.all[key]
	if c != nil {
		c.cancel()
	}
	return c != nil
}

// cancellable lets the request be cancelled by its client, from here on until
// done is called. The work for it then goes on when the connection is lost, which
// in the legacy era says nothing about whether it is wanted.
func (x *exchange) cancellable() (done func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(x.ctx))
	x.work = work
	return x.s.running.Add(requestKey{x.session.ID, string(canonicalID(x.msg.Raw(x.msg.ID)))}, cancel)
}

// wanted is the context of what is done for the request for as long as somebody
// wants it.
func (x *exchange) wanted() context.Context {
	if x.work != nil {
		return x.work
	}
	return x.ctx
}

// cancelled reports whether the client has cancelled this request.
func (x *exchange) cancelled() bool { return x.work != nil && x.work.Err() != nil }

// refuseCancelled ends a request that its client has cancelled. Where it had been
// allowed and no other service knows of its end, it is put on record here.
func (x *exchange) refuseCancelled(recorded bool) *refusal {
	refused := refuse(kindCancelled, "The request was cancelled")
	refused.decision, refused.verdict, refused.recorded = x.decision, auditv1.Verdict_VERDICT_ALLOW, recorded || x.decision == ""
	return refused
}

// hush ends the answer to a request that was cancelled: with nothing, since no
// response is to be sent; but HTTP has to have an answer. So it is an event
// stream that ends without a message, which every client takes that takes
// streams. It reports false for a client that does not: that gets an error, which
// it is to ignore.
func (x *exchange) hush() bool {
	if !acceptsStream(x.r.Header) {
		return false
	}
	x.written = true
	if x.streaming() {
		return true
	}
	x.w.Header()["Content-Type"] = x.s.words.headers.events
	x.w.WriteHeader(200)
	return true
}

// takeCancellation cancels a request of the same session that the client names.
// Malformed notifications and unknown requests are to be ignored. The request may
// be with another edge.
func (x *exchange) takeCancellation() {
	if x.session == nil || x.msg.Params.Kind != jsonrpc.Object {
		return
	}
	var id []byte
	eachMember(x.msg.Raw(x.msg.Params), func(name string, value jsontext.Value) {
		if name == "requestId" {
			id = canonicalID(value)
		}
	})
	if id == nil || len(id) > maxID {
		return
	}
	if x.s.running.Cancel(requestKey{x.session.ID, string(id)}) || x.s.peers == nil {
		return
	}
	x.s.told(x.ctx, x.s.peers.Cancel(x.ctx, &edgev1.Cancel{Session: x.session.ID, RequestId: id}))
}

// cancelHere takes what another edge was told.
func (s *Service) cancelHere(c *edgev1.Cancel) {
	s.running.Cancel(requestKey{c.GetSession(), string(c.GetRequestId())})
}

// told logs, once for each outage, that other edges cannot be told something.
func (s *Service) told(ctx context.Context, err error) {
	if err == nil {
		s.mutePeerEdges.Store(false)
	} else if s.mutePeerEdges.CompareAndSwap(false, true) {
		s.log.WarnContext(ctx, "other edges cannot be reached", "err", err)
	}
}

// canonicalID returns a request's id as JSON, written in one way only, or nil if
// it is none that a request could have had.
func canonicalID(raw jsontext.Value) []byte {
	if len(raw) > maxID {
		return nil
	}
	switch raw.Kind() {
	case jsontext.KindString:
		text, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return nil
		}
		return appendText(nil, string(text))
	case jsontext.KindNumber:
		if !integer(raw) {
			return nil
		}
		return append([]byte(nil), raw...)
	}
	return nil
}
