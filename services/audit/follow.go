package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sallyport-mcp/sallyport/services/audit/internal/index"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/stream"
)

const (
	// A transaction takes at most about so many events and bytes: more save
	// little, and queries wait for what is not committed.
	maxEvents = 2048
	maxBytes  = 4 << 20

	// askInterval is how often the stream is asked for its state.
	askInterval = time.Second

	// Pauses before following again after something went wrong.
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// errForeign says that the index was made from another stream than the one that
// is there, or from more of it than there is.
var errForeign = errors.New("the index does not belong to the stream")

// Run keeps the index until ctx ends. It outlasts whatever happens to NATS and
// to the file; see Check for whether all is well.
func (s *Service) Run(ctx context.Context) error {
	defer s.shut()
	pause := minPause
	for {
		begin := time.Now()
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, index.ErrUnusable) || errors.Is(err, errForeign) {
			err = errors.Join(err, s.setAside())
		}
		s.log.WarnContext(ctx, "audit index stopped following", "error", err)
		if time.Since(begin) > time.Minute {
			pause = minPause
		}
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil
		}
		pause = min(2*pause, maxPause)
	}
}

// shut closes the index, and ends those who follow it.
func (s *Service) shut() {
	close(s.stopped)
	if old := s.use(nil, index.Head{}); old != nil {
		if err := old.Close(); err != nil {
			s.log.Warn("audit index did not close", "error", err)
		}
	}
}

// setAside moves the index away, so that the next follow begins a new one.
func (s *Service) setAside() error {
	var closed error
	if old := s.use(nil, index.Head{}); old != nil {
		closed = old.Close()
	}
	name, err := index.SetAside(s.cfg.Dir, time.Now())
	if err == nil {
		s.log.Error("audit index was set aside and is made again from the stream", "file", name)
	}
	return errors.Join(closed, err)
}

// follow indexes the stream until something goes wrong. Nothing of what it knows
// is needed by the next follow: where to begin is in the index.
func (s *Service) follow(ctx context.Context) error {
	// The index comes first: it can be searched even if NATS is away.
	x, head, err := s.ready(ctx)
	if err != nil {
		return err
	}
	if err := s.stream.Ensure(ctx); err != nil {
		return err
	}
	state, err := s.ask(ctx, head)
	if err != nil {
		return err
	}
	if err := s.belongs(ctx, head, state); err != nil {
		return err
	}
	head.Stream = state.Created

	ctx, cancel := context.WithCancel(ctx)
	messages, broken := make(chan stream.Message), make(chan error, 1)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer cancel()
	reader.Go(func() { // ends with ctx
		broken <- s.stream.Read(ctx, head.Sequence+1, func(m stream.Message) error {
			select {
			case messages <- m:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})

	again := time.NewTicker(askInterval)
	defer again.Stop()
	c := collector{messages: messages, interval: s.cfg.CommitInterval}
	for {
		select {
		case m := <-messages:
			if err := s.apply(ctx, x, &head, c.collect(ctx, m)); err != nil {
				return err
			}
			c.committed = time.Now()
		case <-again.C:
			if _, err := s.ask(ctx, head); err != nil {
				return err
			}
		case err := <-broken:
			return err
		}
	}
}

// ready returns the index, opened if it is not yet.
func (s *Service) ready(ctx context.Context) (*index.Index, index.Head, error) {
	x, err := s.open()
	if err != nil {
		if x, err = index.Open(ctx, s.cfg.Dir); err != nil {
			return nil, index.Head{}, err
		}
		s.use(x, index.Head{})
	}
	head, err := x.Head(ctx)
	if err != nil {
		return nil, index.Head{}, err
	}
	s.use(x, head)
	return x, head, nil
}

// ask asks the stream for its state and compares it with the index. A stream
// that ends before the index does has lost messages that it had acknowledged;
// what comes next would be numbered like them, and be taken for indexed.
func (s *Service) ask(ctx context.Context, head index.Head) (stream.State, error) {
	state, err := s.stream.State(ctx)
	if err != nil {
		return stream.State{}, err
	}
	switch {
	case !head.Stream.IsZero() && !head.Stream.Equal(state.Created):
		return stream.State{}, fmt.Errorf("%w: that one was created at %v, this one at %v", errForeign, head.Stream, state.Created)
	case head.Sequence > state.Last:
		return stream.State{}, fmt.Errorf("%w: the index ends at message %d, the stream at %d", errForeign, head.Sequence, state.Last)
	}
	s.told(state.Last, time.Now())
	return state, nil
}

// belongs checks that the last message of the index is in the stream. If the
// stream has lost its end and grown again since, nothing else would show it.
func (s *Service) belongs(ctx context.Context, head index.Head, state stream.State) error {
	if head.Sequence == 0 || head.Sequence < state.First {
		return nil // nothing to compare; what is gone from the beginning Verify reports
	}
	data, err := s.stream.Message(ctx, head.Sequence)
	if err != nil {
		return err
	}
	if data == nil || sha256.Sum256(data) != head.Sum {
		return fmt.Errorf("%w: message %d is another one there", errForeign, head.Sequence)
	}
	return nil
}

// apply indexes messages in one transaction and moves the head behind them.
// What cannot be read is counted, logged and passed over: it must not hold up
// what comes after it. Verify reports it for ever.
func (s *Service) apply(ctx context.Context, x *index.Index, head *index.Head, messages []stream.Message) error {
	begin := time.Now()
	var entries []index.Entry
	for _, m := range messages {
		found, malformed, problem := s.entries(m)
		entries = append(entries, found...)
		if problem != nil {
			s.metrics.malformed(ctx, malformed)
			s.log.ErrorContext(ctx, "audit stream has a malformed message", "sequence", m.Sequence, "events", malformed, "problem", problem)
		}
	}
	end := messages[len(messages)-1]
	next := index.Head{Stream: head.Stream, Sequence: end.Sequence, Sum: sha256.Sum256(end.Data)}
	added, err := x.Apply(ctx, entries, next)
	if err != nil {
		return err
	}
	*head = next
	s.moved(end.Sequence, end.Pending, added > 0)
	s.metrics.indexed(ctx, added)
	s.span(ctx, begin, messages, entries)
	return nil
}

// entries reads the events of a message. It returns those that can be indexed,
// how many cannot, and what is wrong with the first of those. A message that is
// no batch counts as one event.
func (s *Service) entries(m stream.Message) (found []index.Entry, malformed int, problem error) {
	b, err := openBatch(m.Data)
	if err != nil {
		return nil, 1, err
	}
	found = make([]index.Entry, 0, len(b.events))
	for i, raw := range b.events {
		e, err := index.NewEntry(raw, m.Sequence)
		if err != nil {
			malformed++
			if problem == nil {
				problem = fmt.Errorf("event %d of the batch: %w", i+1, err)
			}
			continue
		}
		found = append(found, e)
	}
	return found, malformed, problem
}

// collector gathers messages for one transaction.
type collector struct {
	messages  <-chan stream.Message
	interval  time.Duration
	committed time.Time // when the last transaction ended
}

// collect returns first and what comes until the interval since the last
// transaction is over, or until it is enough.
func (c *collector) collect(ctx context.Context, first stream.Message) []stream.Message {
	taken, events, bytes := []stream.Message{first}, countEvents(first), len(first.Data)
	wait := time.NewTimer(max(0, c.interval-time.Since(c.committed)))
	defer wait.Stop()
	for events < maxEvents && bytes < maxBytes {
		select {
		case m := <-c.messages:
			taken, events, bytes = append(taken, m), events+countEvents(m), bytes+len(m.Data)
		case <-wait.C:
			return taken
		case <-ctx.Done():
			return taken // the transaction will fail, and nothing is lost
		}
	}
	return taken
}

// countEvents estimates the number of events in a message from its size.
func countEvents(m stream.Message) int { return 1 + len(m.Data)/256 }
