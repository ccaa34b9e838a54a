package mcpbridge

import (
	"context"
	"encoding/json"
	"math"
	"sync"
	"sync/atomic"
	"time"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

const (
	// feedRoom is how many messages of a call may wait for whoever reads it slowly;
	// more are dropped. They are news, and the newest news is next.
	feedRoom = 256
	maxNote  = 1024 // of a progress message
)

// flight is a call that an upstream is working on, from its beginning until its
// end, over all rounds.
type flight struct {
	id        string
	principal string
	tool      string
	by        *upstream
	end       context.CancelCauseFunc
	expiry    *time.Timer // while it is parked; guarded by calls.mu

	level string // of log messages that are wanted; empty for none
	feed  chan *providerv1.CallToolResponse
	asks  chan *question // the rounds take what comes here
	done  chan outcome   // has room for one

	client atomic.Pointer[abilities] // what the client can do, as of the last round

	// waiting are the questions of the last round by the key of the answer. They are
	// the round's that is going on, of which there is at most one.
	waiting map[string]*question

	mu   sync.Mutex
	last float64 // progress
}

type outcome struct {
	raw json.RawMessage
	err error
}

// question is something that a legacy upstream asks in the middle of a call.
type question struct {
	method string
	params json.RawMessage
	answer chan json.RawMessage // has room for one; nil declines
	gone   <-chan struct{}      // the upstream no longer wants to know
}

// decline answers a question without having asked.
func (q *question) decline() { q.answer <- nil }

func newFlight(id, principal, tool string, by *upstream, level string) *flight {
	f := &flight{
		id: id, principal: principal, tool: tool, by: by, level: level, last: math.Inf(-1),
		feed: make(chan *providerv1.CallToolResponse, feedRoom), asks: make(chan *question, maxAsked), done: make(chan outcome, 1),
	}
	return f
}

// heard passes on what the upstream says during the call.
func (f *flight) heard(method string, params json.RawMessage) {
	var m *providerv1.CallToolResponse
	if method == "notifications/progress" {
		m = f.progress(params)
	} else {
		m = f.notice(params)
	}
	if m == nil {
		return
	}
	select {
	case f.feed <- m:
	default:
	}
}

// progress that does not grow is not passed on: the protocol forbids it.
func (f *flight) progress(params json.RawMessage) *providerv1.CallToolResponse {
	var p struct {
		Progress *float64 `json:"progress"`
		Total    *float64 `json:"total"`
		Message  string   `json:"message"`
	}
	if json.Unmarshal(params, &p) != nil || p.Progress == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if *p.Progress <= f.last {
		return nil
	}
	f.last = *p.Progress
	if !fits(p.Message, maxNote) {
		p.Message = ""
	}
	return &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Progress{Progress: &providerv1.Progress{
		Progress: *p.Progress, Total: p.Total, Message: p.Message,
	}}}
}

// notice is a log message, if it is of a level that is wanted.
func (f *flight) notice(params json.RawMessage) *providerv1.CallToolResponse {
	var p struct {
		Level  string          `json:"level"`
		Logger string          `json:"logger"`
		Data   json.RawMessage `json:"data"`
	}
	if f.level == "" || json.Unmarshal(params, &p) != nil || !fits(p.Level, 16, p.Logger, 128) || client.Severity(p.Level) < client.Severity(f.level) {
		return nil
	}
	data, err := client.Clean(p.Data)
	if err != nil || len(data) > maxMeta {
		return nil
	}
	return &providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Notice{Notice: &providerv1.Notice{
		Level: p.Level, Logger: p.Logger, Data: data,
	}}}
}

// asked has a question of the upstream answered by the client, in a later round.
func (f *flight) asked(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, *client.Error) {
	clean, err := cleanParams(params)
	if err != nil || !f.client.Load().can(method, clean) {
		return client.Decline(method)
	}
	q := &question{method: method, params: clean, answer: make(chan json.RawMessage, 1), gone: ctx.Done()}
	select {
	case f.asks <- q:
	case <-ctx.Done():
		return client.Decline(method)
	}
	select {
	case a := <-q.answer:
		if a == nil {
			return client.Decline(method)
		}
		return a, nil
	case <-ctx.Done():
		return client.Decline(method)
	}
}
