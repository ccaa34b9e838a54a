package edge

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// stream lets an answer be an event stream (text/event-stream): it becomes one
// when there is something to tell before the end, or when the end is long in
// coming, and else it stays one JSON object. An open stream is kept alive by
// comments.
//
// While there is a stream, only it writes to the response, under its lock.
type stream struct {
	w          http.ResponseWriter
	controller *http.ResponseController
	headers    *fixedHeaders
	decision   string
	limits     []*quotav1.LimitState
	keepAlive  time.Duration
	patience   time.Duration // of a client that does not read

	mu      sync.Mutex
	state   streamState
	timer   *time.Timer
	stopped bool // the timer was stopped before it fired: no tick is on its way
	frame   []byte
}

type streamState int

const (
	streamClosed streamState = iota // nothing was sent yet
	streamOpen
	streamEnded
)

// comment is sent to show that the connection is alive; clients ignore it.
const comment = ": waiting\n\n"

// acceptsStream reports whether the client says that it reads event streams.
func acceptsStream(h http.Header) bool {
	for _, line := range h["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			kind, _, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.Trim(kind, " \t"), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// allowStream lets the answer become a stream from here on, if the client can
// read one. What is told in headers has to be known.
func (x *exchange) allowStream() {
	if x.stream != nil || !acceptsStream(x.r.Header) {
		return
	}
	s := x.rested
	if x.rested = nil; s == nil {
		s = &stream{headers: &x.s.words.headers, keepAlive: x.s.cfg.KeepAlive, patience: x.s.cfg.WriteTimeout}
	}
	s.begin(x.w, x.decision, x.limits, x.s.cfg.StreamAfter)
	x.stream = s
}

func (s *stream) begin(w http.ResponseWriter, decision string, limits []*quotav1.LimitState, patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w, s.decision, s.limits, s.state, s.stopped = w, decision, limits, streamClosed, false
	if s.timer == nil {
		s.timer = time.AfterFunc(patience, s.tick)
	} else {
		s.timer.Reset(patience)
	}
}

// rest makes the stream ready for another request. It reports false if a tick
// for this one may still be on its way.
func (s *stream) rest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped || cap(s.frame) > keepBuffer {
		return false
	}
	s.w, s.controller, s.decision, s.limits = nil, nil, "", nil
	return true
}

// stop ends the ticking. The caller holds the lock.
func (s *stream) stop() {
	if s.timer.Stop() {
		s.stopped = true
	}
}

// tell sends a message before the answer. It reports false when the client
// cannot be told: it reads no streams, or does not read at all.
func (x *exchange) tell(message []byte) bool {
	return x.stream != nil && x.stream.send(message)
}

// settle says that the answer begins: from now on it is the exchange that
// writes, unless the stream is open already.
func (x *exchange) settle() {
	if x.stream == nil {
		return
	}
	x.stream.mu.Lock()
	defer x.stream.mu.Unlock()
	x.stream.stop()
	if x.stream.state == streamClosed {
		x.stream.state = streamEnded
	}
}

// streaming reports whether a stream is open, so that the answer has to be its
// last event.
func (x *exchange) streaming() bool {
	if x.stream == nil {
		return false
	}
	x.stream.mu.Lock()
	defer x.stream.mu.Unlock()
	return x.stream.state == streamOpen
}

// endStream makes sure that nothing is written when the request is over.
func (x *exchange) endStream() {
	if x.stream == nil {
		return
	}
	if x.stream.end(); x.stream.rest() {
		x.rested = x.stream
	}
	x.stream = nil
}

// tick opens the stream when the answer is long in coming, and then keeps it
// alive.
func (s *stream) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case streamClosed:
		s.open()
		s.flush()
	case streamOpen:
		s.frame = append(s.frame[:0], comment...)
		s.write()
	case streamEnded:
		return
	}
	s.timer.Reset(s.keepAlive)
}

// send writes one message as an event.
func (s *stream) send(message []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case streamClosed:
		s.open()
	case streamOpen:
	case streamEnded:
		return false
	}
	s.frame = appendEvent(s.frame[:0], message)
	s.timer.Reset(s.keepAlive)
	return s.write()
}

// end makes sure that nothing is written any more.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	s.state = streamEnded
}

func (s *stream) open() {
	s.controller = http.NewResponseController(s.w)
	h := s.w.Header()
	h["Content-Type"] = s.headers.events
	h["X-Accel-Buffering"] = s.headers.unbuffered
	tellFacts(h, s.decision, s.limits, noLength)
	s.state = streamOpen
	s.w.WriteHeader(http.StatusOK)
}

// write sends the frame. A client that does not take it in time is dropped, and
// with it its request. Afterwards the deadline covers the silence: under HTTP/2
// it ends the stream when it passes, written to or not.
func (s *stream) write() bool {
	_ = s.controller.SetWriteDeadline(time.Now().Add(s.patience))
	if _, err := s.w.Write(s.frame); err != nil {
		return false
	}
	ok := s.flush()
	_ = s.controller.SetWriteDeadline(time.Now().Add(s.keepAlive + s.patience))
	return ok
}

func (s *stream) flush() bool { return s.controller.Flush() == nil }

// appendEvent frames a JSON value as a server-sent event (HTML, 9.2.5). In JSON
// line breaks only stand between tokens, where a space says the same.
func appendEvent(b, message []byte) []byte {
	b = append(b, "event: message\ndata: "...)
	for _, c := range message {
		if c == '\n' || c == '\r' {
			c = ' '
		}
		b = append(b, c)
	}
	return append(b, "\n\n"...)
}

// notify sends a notification before the answer; params are the members of its
// params.
func (x *exchange) notify(method string, params []byte) bool {
	b := make([]byte, 0, len(params)+96)
	b = append(b, `{"jsonrpc":"2.0","method":`...)
	b = strconv.AppendQuote(b, method) // one of ours: plain ASCII
	b = append(b, `,"params":{`...)
	b = append(b, params...)
	return x.tell(append(b, "}}"...))
}
