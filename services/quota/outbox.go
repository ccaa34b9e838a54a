package quota

import (
	"sync"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// keepFor is how long outcomes are kept for others of the same message, so that
// these go with them. A node that does not answer holds up others no longer.
const keepFor = 2 * time.Millisecond

// outbox sends the outcomes of messages whose checks are decided side by side.
type outbox struct {
	talk *talk

	mu       sync.Mutex
	kept     map[*answers]bool // of which there is something to send
	timer    *time.Timer       // nil while there is nothing
	flushing sync.WaitGroup
	broken   error
}

// answers are the outcomes of one message.
type answers struct {
	id    uint64
	alone bool // to one check
	left  int  // that are to come
	ready []*quotav1.CheckOutcome
}

// take returns what is to be sent.
func (m *answers) take() *quotav1.CheckStreamResponse {
	ready := m.ready
	m.ready = nil
	if m.alone {
		return single(m.id, ready[0])
	}
	return &quotav1.CheckStreamResponse{Id: m.id, Outcomes: ready}
}

// add sends an outcome: with the last of its message, or when it was kept long
// enough.
func (b *outbox) add(m *answers, o *quotav1.CheckOutcome) {
	b.mu.Lock()
	m.ready = append(m.ready, o)
	if m.left--; m.left > 0 {
		defer b.mu.Unlock()
		b.kept[m] = true
		if b.timer == nil {
			b.flushing.Add(1)
			b.timer = time.AfterFunc(keepFor, b.flush)
		}
		return
	}
	delete(b.kept, m)
	resp := m.take()
	b.mu.Unlock()
	b.send(resp)
}

// flush sends what was kept.
func (b *outbox) flush() {
	defer b.flushing.Done()
	var all []*quotav1.CheckStreamResponse
	b.mu.Lock()
	b.timer = nil
	for m := range b.kept {
		all = append(all, m.take())
	}
	clear(b.kept)
	b.mu.Unlock()
	for _, resp := range all {
		b.send(resp)
	}
}

func (b *outbox) send(resp *quotav1.CheckStreamResponse) {
	if err := b.talk.send(resp); err != nil { // so does the next Recv
		b.mu.Lock()
		defer b.mu.Unlock()
		b.broken = err
	}
}

// end waits until nothing is being sent any more, when nothing is added any more.
func (b *outbox) end() error {
	b.mu.Lock()
	if b.timer != nil && b.timer.Stop() {
		b.flushing.Done()
		b.timer = nil
	}
	b.mu.Unlock()
	b.flushing.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.broken
}
