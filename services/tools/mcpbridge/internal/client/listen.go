package client

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// How long to wait before listening again when a stream has ended.
const (
	relistenMin = time.Second
	relistenMax = time.Minute
)

var errNoStream = errors.New("the server has no such stream")

// listen follows what the server tells without being asked: the stream of GET in
// the legacy era, and in the modern one, if there can be something to hear, a
// subscription. It ends with ctx.
func (s *Session) listen(ctx context.Context) {
	other := func(m message) error { return s.dispatch(m, nil) }
	once := func(ctx context.Context) error { return s.t.standing(ctx, other) }
	if s.modern {
		wanted := map[string]bool{}
		for name, c := range map[string]*ListCapability{
			"toolsListChanged": s.caps.Tools, "resourcesListChanged": s.caps.Resources, "promptsListChanged": s.caps.Prompts,
		} {
			if c != nil && c.ListChanged {
				wanted[name] = true
			}
		}
		if len(wanted) == 0 {
			return
		}
		once = func(ctx context.Context) error { return s.subscription(ctx, wanted) }
	}
	s.spawn(func() { s.keepListening(ctx, once) })
}

func (s *Session) keepListening(ctx context.Context, once func(context.Context) error) {
	wait := relistenMin
	for {
		began := time.Now()
		err := once(ctx)
		_, refused := errors.AsType[*Error](err)
		if errors.Is(err, errNoStream) || refused || ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrFlood) || errors.Is(err, ErrSessionGone) {
			s.lose(err)
			return
		}
		if time.Since(began) > relistenMax {
			wait = relistenMin
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, relistenMax)
		case <-ctx.Done():
			return
		}
	}
}

// subscription is subscriptions/listen: a request that is answered when the
// server ends it.
func (s *Session) subscription(ctx context.Context, wanted any) error {
	params, err := rawParams(map[string]any{"notifications": wanted})
	if err != nil {
		return err
	}
	_, err = s.Do(ctx, &Call{Method: "subscriptions/listen", Params: params})
	return err
}

// Subscribe asks to be told of changes of resources, which come to
// Options.OnChange, until ctx ends. A modern server is listened to in the
// background; errors of it are not told.
func (s *Session) Subscribe(ctx context.Context, uris []string) error {
	if len(uris) == 0 {
		return nil
	}
	if s.modern {
		s.spawn(func() {
			s.keepListening(ctx, func(ctx context.Context) error {
				return s.subscription(ctx, map[string]any{"resourceSubscriptions": uris})
			})
		})
		return nil
	}
	for _, uri := range uris {
		b, err := json.Marshal(uri)
		if err != nil {
			return err
		}
		_, err = s.Do(ctx, &Call{Method: "resources/subscribe", Params: map[string]json.RawMessage{"uri": b}})
		if _, refused := errors.AsType[*Error](err); err != nil && !refused {
			return err
		}
	}
	return nil
}
