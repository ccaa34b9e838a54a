// Package stream reads the audit stream from NATS, from any message on.
package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
)

const (
	// A pull asks for at most so much, so that large batches do not pile up
	// here.
	pullMessages = 512
	pullBytes    = 8 << 20

	// answerTimeout bounds each question to NATS.
	answerTimeout = 5 * time.Second
)

// Message is one message of the stream.
type Message struct {
	Sequence uint64
	Time     time.Time // when the stream stored it
	ID       string    // Nats-Msg-Id
	Data     []byte
	Pending  uint64 // how many follow, as far as was known then
}

// State is what the stream holds.
type State struct {
	// Created names the stream: another one of the same name has another time.
	Created time.Time
	// First and Last are sequences.
	First, Last uint64
	// Messages is how many there are.
	Messages uint64
}

// Stream is the audit stream.
type Stream struct{ bus *bus.Bus }

// New returns the audit stream on b. It asks nothing of NATS yet.
func New(b *bus.Bus) *Stream { return &Stream{b} }

// Ensure creates the stream if it is not there.
func (s *Stream) Ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := s.bus.AuditStream(ctx)
	return err
}

// State returns what the stream holds now.
func (s *Stream) State(ctx context.Context) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	stream, err := s.bus.JetStream().Stream(ctx, bus.AuditStream)
	if err != nil {
		return State{}, fmt.Errorf("ask for the audit stream: %w", err)
	}
	info := stream.CachedInfo() // opening it has just asked
	return State{Created: info.Created, First: info.State.FirstSeq, Last: info.State.LastSeq, Messages: info.State.Msgs}, nil
}

// Message returns the bytes of one message, nil if it is not there.
func (s *Stream) Message(ctx context.Context, sequence uint64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	stream, err := s.bus.JetStream().Stream(ctx, bus.AuditStream)
	if err != nil {
		return nil, fmt.Errorf("ask for the audit stream: %w", err)
	}
	m, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read message %d of the audit stream: %w", sequence, err)
	}
	return m.Data, nil
}

// Read calls on with each message, in order and without a gap, beginning with
// the sequence from or, if that is gone, the first there is. It returns when ctx
// ends, when on returns an error, or when the stream cannot be read any more;
// never nil. The caller knows best where to go on, so Read does not.
func (s *Stream) Read(ctx context.Context, from uint64, on func(Message) error) error {
	iter, stop, err := s.open(ctx, from)
	if err != nil {
		return fmt.Errorf("read the audit stream: %w", err)
	}
	defer stop()
	for expected := uint64(1); ; expected++ {
		m, err := iter.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read the audit stream: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read the audit stream: %w", err)
		}
		// Nothing is acknowledged and nothing delivered again, so a message
		// that was lost on the way shows as a gap in what was delivered.
		if meta.Sequence.Consumer != expected {
			return errors.New("read the audit stream: a message was lost on the way")
		}
		err = on(Message{
			Sequence: meta.Sequence.Stream,
			Time:     meta.Timestamp,
			ID:       m.Headers().Get(jetstream.MsgIDHeader),
			Data:     m.Data(),
			Pending:  meta.NumPending,
		})
		if err != nil {
			return err
		}
	}
}

// open starts an ephemeral consumer. It keeps no state that could disagree with
// the reader's own: see the package comment of services/audit.
func (s *Stream) open(ctx context.Context, from uint64) (jetstream.MessagesContext, func(), error) {
	ask, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	stream, err := s.bus.JetStream().Stream(ask, bus.AuditStream)
	if err != nil {
		return nil, nil, err
	}
	consumer, err := stream.CreateConsumer(ask, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       max(from, 1),
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		InactiveThreshold: 30 * time.Second,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return nil, nil, err
	}
	iter, err := consumer.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes),
		jetstream.PullHeartbeat(5*time.Second),
		jetstream.WithMessagesErrOnMissingHeartbeat(true),
	)
	if err != nil {
		return nil, nil, err
	}
	stop := func() {
		iter.Stop()
		ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		// If this fails the server forgets the consumer by itself, a little
		// later.
		_ = stream.DeleteConsumer(ask, consumer.CachedInfo().Name)
	}
	return iter, stop, nil
}
