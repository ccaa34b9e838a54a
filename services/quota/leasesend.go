package quota

import (
	"sync"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// listen begins to tell the stream when leases end before their time, if it does
// not yet: from the first one on that is asked for.
func (t *talk) listen() {
	t.listening.Do(func() {
		told := t.s.plan.Load().number // a lease by older rules is told of below, or not given
		t.helper.Go(func() { t.tellEnds(told) })
	})
}

// tellEnds says which leases end, until the stream does.
func (t *talk) tellEnds(told uint64) {
	for stopping := t.s.stopping; ; {
		changed := t.s.otherRules.next()
		if number := t.s.plan.Load().number; number != told {
			told = number
			if t.tellEnd(&quotav1.LeasesEnd{Rules: number}) != nil {
				return
			}
			continue
		}
		select {
		case <-changed:
		case <-stopping:
			stopping = nil // once
			if t.tellEnd(&quotav1.LeasesEnd{Rules: told, Stopping: true}) != nil {
				return
			}
		case <-t.over:
			return
		case <-t.stream.Context().Done():
			return
		}
	}
}

func (t *talk) tellEnd(end *quotav1.LeasesEnd) error {
	return t.send(&quotav1.CheckStreamResponse{Outcome: &quotav1.CheckStreamResponse_LeasesEnd{LeasesEnd: end}})
}

// signal tells whoever waits that something has changed. The zero value is ready.
type signal struct {
	mu sync.Mutex
	c  chan struct{}
}

// next is closed at the next change.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c == nil {
		s.c = make(chan struct{})
	}
	return s.c
}

func (s *signal) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil {
		close(s.c)
		s.c = nil
	}
}
