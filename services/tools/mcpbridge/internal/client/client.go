// Package client speaks MCP to one server as its client, in both eras: with
// sessions (2025-11-25 and before) and without (2026-07-28), over Streamable HTTP
// and over the standard streams of a child process.
//
// Results, schemas and questions stay the bytes that the server sent: nothing is
// decoded that need not be understood here. What a server asks or tells in the
// middle of a call is handed to that call and to no other. All that a server may
// make us keep is bounded. Whom to call, and for whom, is not this package's
// business.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// The revisions that are spoken: the newest of each era.
const (
	Modern = "2026-07-28"
	Legacy = "2025-11-25"
)

// Bounds on what a server can make us do.
const (
	maxQuestions  = 8    // of one session, open at once
	unaskedRate   = 500  // messages a second besides answers
	unaskedBurst  = 2000 // and how many at once
	cancelTimeout = 2 * time.Second
	goneTimeout   = time.Second
)

// Options say how to speak to a server.
type Options struct {
	// Era is "modern", "legacy", or "auto", which tries modern first.
	Era string
	// MaxBytes bounds one message of the server.
	MaxBytes int
	// Version of this program, for the server.
	Version string
	// OnChange is told of notifications that belong to no call: list_changed and
	// resources/updated. It must not block. Nil discards them.
	OnChange func(method string, params json.RawMessage)
	// Log must not be nil.
	Log *slog.Logger
}

// Call is one request to the server.
type Call struct {
	// Method is the request's, such as "tools/call".
	Method string
	// Params are its parameters, without _meta.
	Params map[string]json.RawMessage
	// Capabilities are the client's for this call, a JSON object or nothing. Only
	// modern servers learn of them.
	Capabilities json.RawMessage
	// LogLevel is from which level log messages are wanted; empty for none.
	LogLevel string
	// Name goes into the header Mcp-Name where there are headers.
	Name string
	// Bindings say which arguments are mirrored into headers.
	Bindings []Binding
	// WantsProgress asks for progress.
	WantsProgress bool
	// OnNotify is told of what the server says meanwhile. It must not block. Nil
	// discards.
	OnNotify func(method string, params json.RawMessage)
	// OnRequest answers what the server asks meanwhile. It may take until its
	// context ends. Without it questions are declined.
	OnRequest func(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, *Error)
}

// inflight is a call that waits for its answer.
type inflight struct {
	*Call
	id     string
	cancel context.CancelCauseFunc
	scope  func() (context.Context, context.CancelFunc) // ends with the call
}

// Session is a conversation with a server. Its methods are safe for concurrent
// use. Close must be called.
type Session struct {
	opts    Options
	t       transport
	seq     atomic.Int64
	modern  bool         // never written after Connect
	caps    Capabilities // likewise
	unasked *rate.Limiter

	lost     chan struct{}
	lostOnce sync.Once
	cause    error // written before lost is closed

	stop context.CancelFunc // ends what runs besides calls
	work sync.WaitGroup     // counts it

	telling sync.WaitGroup // counts notices of cancellations on their way

	mu       sync.Mutex
	closed   bool
	calls    map[string]*inflight          // by id
	ended    chan struct{}                 // closed and replaced when a call ends
	asked    map[string]context.CancelFunc // open questions by the server's id
	logLevel string                        // as it was last set; legacy only
}

// Capabilities are the parts of a server's capabilities that matter here.
type Capabilities struct {
	Tools       *ListCapability `json:"tools"`
	Resources   *ListCapability `json:"resources"`
	Prompts     *ListCapability `json:"prompts"`
	Completions *struct{}       `json:"completions"`
	Logging     *struct{}       `json:"logging"`
}

// ListCapability says that the server has things of a kind.
type ListCapability struct {
	ListChanged bool `json:"listChanged"`
	Subscribe   bool `json:"subscribe"`
}

func newSession(opts Options) *Session {
	return &Session{
		opts: opts, lost: make(chan struct{}), unasked: rate.NewLimiter(unaskedRate, unaskedBurst),
		calls: map[string]*inflight{}, ended: make(chan struct{}), asked: map[string]context.CancelFunc{}, stop: func() {},
	}
}

// Modern reports whether the server speaks the modern era.
func (s *Session) Modern() bool { return s.modern }

// Capabilities returns what the server says that it has.
func (s *Session) Capabilities() Capabilities { return s.caps }

// Lost is closed when nothing more can come of the session; see [Session.Err].
func (s *Session) Lost() <-chan struct{} { return s.lost }

// Err returns why the session was lost; nil if it was not.
func (s *Session) Err() error {
	select {
	case <-s.lost:
		return s.cause
	default:
		return nil
	}
}

func (s *Session) lose(cause error) {
	s.lostOnce.Do(func() {
		s.cause = cause
		close(s.lost)
	})
}

// Close ends the session, and the child process if there is one, and waits until
// nothing of it runs. Calls in flight are cancelled, and the server is told:
// some wait with the end of a session for the end of its calls.
func (s *Session) Close() {
	if errors.Is(s.Err(), ErrSessionGone) {
		s.settleCalls(goneTimeout)
	}
	s.mu.Lock()
	for id, c := range s.calls {
		s.cancelled(id)
		c.cancel(ErrNoAnswer) // it may have been served
	}
	s.closed = true
	s.mu.Unlock()
	s.telling.Wait()
	s.lose(ErrClosed)
	s.stop()
	s.t.close()
	s.work.Wait()
}

// settleCalls gives calls in flight some time to end by themselves: a server that
// has forgotten the session says so to each, and each can be made again.
func (s *Session) settleCalls(most time.Duration) {
	for end := time.Now().Add(most); time.Now().Before(end); {
		s.mu.Lock()
		ended, n := s.ended, len(s.calls)
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-ended:
		case <-time.After(time.Until(end)):
		}
	}
}

// spawn runs what Close waits for. It does nothing once the session is closed.
func (s *Session) spawn(f func()) (spawned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.work.Go(f)
	}
	return !s.closed
}

// Do makes a call and returns its result. An error is an [*Error] if the server
// gave it; see the other errors of this package for what else there is. When ctx
// ends the server is told.
func (s *Session) Do(ctx context.Context, c *Call) (json.RawMessage, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	if err := s.setLogLevel(ctx, c); err != nil {
		return nil, err
	}
	id := s.seq.Add(1)
	req, err := s.request(id, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &inflight{Call: c, id: req.id, cancel: cancel}
	f.scope = func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	s.calls[f.id] = f
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.calls, f.id)
		close(s.ended)
		s.ended = make(chan struct{})
	}()

	m, err := s.t.exchange(ctx, req, func(m message) error { return s.dispatch(m, f) })
	switch {
	case ctx.Err() != nil && err != nil:
		s.mu.Lock()
		s.cancelled(f.id)
		s.mu.Unlock()
		return nil, context.Cause(ctx)
	case errors.Is(err, ErrSessionGone):
		s.lose(err)
		return nil, err
	case err != nil:
		return nil, err
	case m.Error != nil:
		return nil, m.Error
	}
	return m.Result, nil
}

// cancelled tells the server, without making the caller wait for it. Modern HTTP
// servers know it from the end of the stream. s.mu must be held.
func (s *Session) cancelled(id string) {
	if s.closed || s.Err() != nil || s.modern && s.t.headers() {
		return
	}
	s.telling.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		err := s.notify(ctx, "notifications/cancelled", map[string]any{"requestId": json.RawMessage(id), "reason": "the caller has gone away"})
		if err != nil {
			s.opts.Log.Debug("a cancellation was not delivered", "err", err)
		}
	})
}

// request writes the request of a call.
func (s *Session) request(id int64, c *Call) (outgoing, error) {
	meta := map[string]any{}
	if c.WantsProgress {
		meta["progressToken"] = id
	}
	if s.modern {
		maps.Copy(meta, s.identity(c.Capabilities))
		if c.LogLevel != "" {
			meta["io.modelcontextprotocol/logLevel"] = c.LogLevel
		}
	}
	params := make(map[string]any, len(c.Params)+1)
	for k, v := range c.Params {
		params[k] = v
	}
	if len(meta) > 0 {
		params["_meta"] = meta
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": c.Method, "params": params})
	if err != nil {
		return outgoing{}, err
	}
	out := outgoing{id: strconv.FormatInt(id, 10), method: c.Method, body: body, name: c.Name}
	if s.modern && len(c.Bindings) > 0 {
		out.mirrored = mirror(c.Bindings, c.Params["arguments"])
	}
	return out, nil
}

// setLogLevel lowers the level of a legacy session to what the call wants. The
// level is the session's, so that others may be sent more than they want: they
// must look at the level of each message.
func (s *Session) setLogLevel(ctx context.Context, c *Call) error {
	if c.LogLevel == "" || s.modern || s.caps.Logging == nil || c.Method == "logging/setLevel" {
		return nil
	}
	s.mu.Lock()
	enough := s.logLevel != "" && Severity(s.logLevel) <= Severity(c.LogLevel)
	if !enough {
		s.logLevel = c.LogLevel
	}
	s.mu.Unlock()
	if enough {
		return nil
	}
	level, err := json.Marshal(c.LogLevel)
	if err != nil {
		return err
	}
	_, err = s.Do(ctx, &Call{Method: "logging/setLevel", Params: map[string]json.RawMessage{"level": level}})
	if _, refused := errors.AsType[*Error](err); refused {
		return nil // no log messages then; the call matters more
	}
	return err
}

// Ping asks the server whether it is there.
func (s *Session) Ping(ctx context.Context) error {
	method := "ping"
	if s.modern {
		method = "server/discover"
	}
	_, err := s.Do(ctx, &Call{Method: method})
	return err
}

// notify sends a notification.
func (s *Session) notify(ctx context.Context, method string, params any) error {
	m := map[string]any{"jsonrpc": "2.0", "method": method}
	if params != nil {
		m["params"] = params
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.t.send(ctx, outgoing{method: method, body: body})
}

// Severity orders the names of log levels, from debug upwards; unknown names are
// the least.
func Severity(level string) int {
	switch level {
	case "info":
		return 1
	case "notice":
		return 2
	case "warning":
		return 3
	case "error":
		return 4
	case "critical":
		return 5
	case "alert":
		return 6
	case "emergency":
		return 7
	}
	return 0
}
