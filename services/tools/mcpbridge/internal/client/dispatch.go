package client

import (
	"context"
	"encoding/json"
	"strconv"
	"time"
)

// dispatch sees to a message that is no response. of is the call in whose stream
// it came; nil where the transport cannot tell, as with a child process. An error
// means that the server is not to be listened to any longer.
func (s *Session) dispatch(m message, of *inflight) error {
	if !s.unasked.Allow() {
		return ErrFlood
	}
	switch {
	case m.isRequest():
		s.question(m, of)
	case m.Method == "notifications/progress":
		if c := s.byToken(m.Params); c != nil && c.OnNotify != nil && (of == nil || of == c) {
			c.OnNotify(m.Method, m.Params)
		}
	case m.Method == "notifications/message":
		if of == nil {
			of = s.sole()
		}
		if of != nil && of.OnNotify != nil {
			of.OnNotify(m.Method, m.Params)
		}
	case m.Method == "notifications/cancelled":
		s.withdraw(m.Params)
	case m.Method != "" && s.opts.OnChange != nil:
		s.opts.OnChange(m.Method, m.Params)
	}
	return nil
}

// byToken finds the call that progress is about: the token is the call's id.
func (s *Session) byToken(params json.RawMessage) *inflight {
	var p struct {
		Token json.RawMessage `json:"progressToken"`
	}
	if json.Unmarshal(params, &p) != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[string(p.Token)]; c != nil && c.WantsProgress {
		return c
	}
	return nil
}

// sole returns the only call in flight that can be asked. With none or several
// nobody can tell whom a message is for, and a wrong guess would show one caller
// what belongs to another: then it returns nil.
func (s *Session) sole() *inflight {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *inflight
	for _, c := range s.calls {
		if c.OnRequest == nil {
			continue
		}
		if found != nil {
			return nil
		}
		found = c
	}
	return found
}

// question answers a request of the server. Of those there are more of than may
// be open, and of a second with the same id, nothing comes.
func (s *Session) question(m message, of *inflight) {
	if of == nil {
		of = s.sole()
	}
	scope := func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) }
	reply := func(context.Context) (json.RawMessage, *Error) { return Decline(m.Method) }
	switch {
	case m.Method == "ping":
		reply = func(context.Context) (json.RawMessage, *Error) { return json.RawMessage("{}"), nil }
	case of != nil && of.OnRequest != nil:
		scope = of.scope
		reply = func(ctx context.Context) (json.RawMessage, *Error) { return of.OnRequest(ctx, m.Method, m.Params) }
	}
	id := string(m.ID)
	ctx, cancel := scope()
	s.mu.Lock()
	_, twice := s.asked[id]
	admitted := !twice && len(s.asked) < maxQuestions
	if admitted {
		s.asked[id] = cancel
	}
	s.mu.Unlock()
	if !admitted {
		cancel()
		s.opts.Log.Debug("a request of the server is not answered", "method", m.Method)
		return
	}
	forget := func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asked, id)
	}
	spawned := s.spawn(func() {
		defer forget()
		result, failed := reply(ctx)
		if ctx.Err() == nil {
			s.answer(ctx, m.ID, result, failed)
		}
	})
	if !spawned {
		forget()
	}
}

// withdraw ends a question that the server no longer wants answered.
func (s *Session) withdraw(params json.RawMessage) {
	var p struct {
		RequestID json.RawMessage `json:"requestId"`
	}
	if json.Unmarshal(params, &p) != nil {
		return
	}
	s.mu.Lock()
	cancel := s.asked[string(p.RequestID)]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (s *Session) answer(ctx context.Context, id, result json.RawMessage, failed *Error) {
	body, err := response(id, result, failed)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		err = s.t.send(ctx, outgoing{body: body})
	}
	if err != nil {
		s.opts.Log.Warn("an answer did not reach the server", "err", err)
	}
}

// Decline returns the answer to a request of a server that nobody can be asked:
// people have said no, and models and folders there are none.
func Decline(method string) (json.RawMessage, *Error) {
	if method == "elicitation/create" {
		return json.RawMessage(`{"action":"decline"}`), nil
	}
	return nil, &Error{Code: CodeMethodNotFound, Message: "the client does not support " + strconv.Quote(method)}
}
