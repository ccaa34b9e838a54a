package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	maxStatusBody = 64 << 10 // of an error's body
	maxResumes    = 20       // of one stream in a row without an event
	resumeWait    = time.Second
	closeTimeout  = 2 * time.Second
)

// DialHTTP opens a session with the server at a URL. All requests go through
// hc, which adds credentials and decides where they may go. ctx bounds the
// opening, not the session, and should have a deadline.
func DialHTTP(ctx context.Context, endpoint string, hc *http.Client, opts Options) (*Session, error) {
	s := newSession(opts)
	s.t = &httpTransport{url: endpoint, client: hc, max: opts.MaxBytes}
	if err := s.start(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

type httpTransport struct {
	url    string
	client *http.Client
	max    int

	mu       sync.Mutex
	modern   bool
	revision string
	session  string // Mcp-Session-Id
}

func (*httpTransport) headers() bool                   { return true }
func (*httpTransport) start(context.Context, *Session) {}

func (t *httpTransport) era(modern bool, revision string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.modern, t.revision = modern, revision
}

func (t *httpTransport) do(ctx context.Context, method string, body []byte, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, t.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header
	req.Header.Set("Accept", "application/json, text/event-stream")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Body, req.ContentLength = nil, 0
	}
	t.mu.Lock()
	if t.revision != "" {
		req.Header.Set("MCP-Protocol-Version", t.revision)
	}
	if t.session != "" {
		req.Header.Set("Mcp-Session-Id", t.session)
	}
	t.mu.Unlock()
	resp, err := t.client.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return nil, e.Err // without the URL: some hold what authenticates us
	}
	return resp, err
}

func (t *httpTransport) post(ctx context.Context, msg outgoing) (*http.Response, error) {
	header := http.Header{}
	t.mu.Lock()
	modern := t.modern
	t.mu.Unlock()
	if modern && msg.method != "" {
		if msg.mirrored != nil {
			header = msg.mirrored
		}
		header.Set("Mcp-Method", msg.method)
		if msg.name != "" {
			header.Set("Mcp-Name", headerValue(msg.name))
		}
	}
	return t.do(ctx, http.MethodPost, msg.body, header)
}

// send implements transport.
func (t *httpTransport) send(ctx context.Context, msg outgoing) error {
	resp, err := t.post(ctx, msg)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		return t.refusal(resp)
	}
	return nil
}

// exchange implements transport.
func (t *httpTransport) exchange(ctx context.Context, req outgoing, other func(message) error) (message, error) {
	resp, err := t.post(ctx, req)
	if err != nil {
		return message{}, err
	}
	// The stream is replaced when it is resumed.
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		return message{}, t.refusal(resp)
	}
	if req.method == "initialize" {
		if err := t.setSession(resp.Header.Get("Mcp-Session-Id")); err != nil {
			return message{}, err
		}
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // of what is no media type it is empty
	switch media {
	case "application/json":
		return t.body(resp, req.id)
	case "text/event-stream":
	default:
		return message{}, fmt.Errorf("%w: a body of another type", ErrMalformed)
	}
	return t.follow(ctx, resp, req.id, other)
}

// body reads a response that is one JSON object.
func (t *httpTransport) body(resp *http.Response, id string) (message, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(t.max)+1))
	if err != nil {
		return message{}, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if len(b) > t.max {
		return message{}, ErrTooLarge
	}
	m, err := parse(b)
	if err == nil && !m.answers(id) {
		err = ErrMalformed
	}
	return m, err
}

// follow reads a stream until the answer to id comes. A legacy server may end it
// before and have it asked for again.
func (t *httpTransport) follow(ctx context.Context, resp *http.Response, id string, other func(message) error) (message, error) {
	stream := newEvents(resp.Body, t.max)
	for resumes := 0; ; {
		last := stream.lastID
		m, err := stream.until(id, other)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrFlood) || errors.Is(err, ErrMalformed) {
			return m, err
		}
		if stream.lastID != last {
			resumes = 0
		}
		resumes++
		if stream.lastID == "" || t.isModern() || resumes > maxResumes {
			return message{}, fmt.Errorf("%w: %w", ErrNoAnswer, err)
		}
		select {
		case <-time.After(max(resumeWait, stream.retry)):
		case <-ctx.Done():
			return message{}, ctx.Err()
		}
		next, err := t.do(ctx, http.MethodGet, nil, http.Header{"Last-Event-Id": {stream.lastID}})
		if err != nil {
			continue
		}
		defer func() { _ = next.Body.Close() }() // at most maxResumes in a row
		if next.StatusCode != http.StatusOK {
			return message{}, fmt.Errorf("%w: %w", ErrNoAnswer, t.refusal(next))
		}
		stream.resume(next.Body)
	}
}

// standing implements transport.
func (t *httpTransport) standing(ctx context.Context, other func(message) error) error {
	resp, err := t.do(ctx, http.MethodGet, nil, http.Header{})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode/100 == 5 || resp.StatusCode == http.StatusTooManyRequests:
		return &StatusError{resp.StatusCode}
	case resp.StatusCode != http.StatusOK || media != "text/event-stream":
		return errNoStream // which the specification allows to every server
	}
	_, err = newEvents(resp.Body, t.max).until("", other)
	return err
}

func (t *httpTransport) isModern() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.modern
}

func (t *httpTransport) setSession(id string) error {
	for i := range len(id) {
		if id[i] < 0x21 || id[i] > 0x7e || i >= 1024 {
			return fmt.Errorf("%w: a session id of other characters", ErrMalformed)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.session = id
	return nil
}

// refusal makes an error of a response that is none of 2xx. Legacy servers say by
// 404, and some by 400 and a code of their own, that they do not know the session.
func (t *httpTransport) refusal(resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxStatusBody))
	if err != nil {
		return &StatusError{resp.StatusCode}
	}
	var m struct {
		Error *Error `json:"error"`
	}
	known := json.Unmarshal(b, &m) == nil && m.Error != nil && resp.StatusCode/100 == 4
	t.mu.Lock()
	inSession := t.session != ""
	t.mu.Unlock()
	switch {
	case inSession && resp.StatusCode == http.StatusNotFound && (!known || m.Error.Code != CodeMethodNotFound),
		inSession && resp.StatusCode == http.StatusBadRequest && known && (m.Error.Code == -32000 || m.Error.Code == -32001):
		return ErrSessionGone
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden || !known:
		return &StatusError{resp.StatusCode}
	}
	return m.Error
}

// close implements transport: it tells a legacy server that the session ends.
func (t *httpTransport) close() {
	t.mu.Lock()
	id := t.session
	t.mu.Unlock()
	if id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if resp, err := t.do(ctx, http.MethodDelete, nil, http.Header{}); err == nil {
		_ = resp.Body.Close()
	}
}

// milliseconds reads the field retry of an event stream.
func milliseconds(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Millisecond, 30*time.Second)
}
