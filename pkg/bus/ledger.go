package bus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Ledger is the stream of what durable quotas have booked. Whoever appends names
// the sequence of the last message, so a writer who missed one is refused. Its
// methods are safe for concurrent use.
type Ledger struct {
	bus  *Bus
	made atomic.Bool
}

// Ledger returns the ledger, which is made when it is first read.
func (b *Bus) Ledger() *Ledger { return &Ledger{bus: b} }

// stream returns the stream as it is now. It is made once only: if it vanishes
// later, that is a loss to be noticed.
func (l *Ledger) stream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerAnswer)
	defer cancel()
	if l.made.Load() {
		s, err := l.bus.js.Stream(ctx, LedgerStream)
		if err != nil {
			return nil, fmt.Errorf("look at the ledger: %w", err)
		}
		return s, nil
	}
	s, err := l.bus.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        LedgerStream,
		Description: "what durable quotas have spent",
		Subjects:    []string{SubjectLedger},
		Storage:     jetstream.FileStorage,
		Replicas:    l.bus.cfg.Replicas,
		Discard:     jetstream.DiscardNew,
		MaxAge:      LedgerLife,
		DenyDelete:  true,
		DenyPurge:   true,
		Duplicates:  dedup,
	})
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	l.made.Store(true)
	return s, nil
}

// Append stores a message after the one with sequence last, and returns its
// sequence when the stream has acknowledged it. The error is [ErrConflict] when
// that is not the last one, perhaps because this very message was stored before.
// Any other leaves open whether it was stored.
func (l *Ledger) Append(ctx context.Context, last uint64, id string, data []byte) (uint64, error) {
	ack, err := l.bus.js.PublishMsg(ctx, &nats.Msg{Subject: SubjectLedger, Data: data},
		jetstream.WithMsgID(id), jetstream.WithExpectStream(LedgerStream), jetstream.WithExpectLastSequence(last))
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return 0, ErrConflict
	}
	if err != nil {
		return 0, fmt.Errorf("append to the ledger: %w", err)
	}
	return ack.Sequence, nil
}

// ledgerAnswer is how long one answer may take; a server that has just changed its
// leader may give none.
const ledgerAnswer = 2 * time.Second

// few is how many messages are read one by one; more are streamed.
const few = 16

// Read calls on for every message from a sequence on to the last there is now,
// in order, and returns the sequences of the first and of the last. The last of
// an empty ledger is that of the last that was ever stored, and first is then one
// more.
func (l *Ledger) Read(ctx context.Context, from uint64, on func(sequence uint64, data []byte) error) (first, last uint64, err error) {
	s, err := l.stream(ctx)
	if err != nil {
		return 0, 0, err
	}
	state := s.CachedInfo().State
	first, last = state.FirstSeq, state.LastSeq
	from = max(from, first)
	if state.Msgs == 0 || from > last {
		return first, last, nil
	}
	if last-from < few {
		for ; from <= last; from++ {
			m, err := l.message(ctx, s, from)
			if err != nil {
				return 0, 0, err
			}
			if err := on(m.Sequence, m.Data); err != nil {
				return 0, 0, err
			}
		}
		return first, last, nil
	}
	return first, last, l.follow(ctx, s, from, last, on)
}

func (l *Ledger) message(ctx context.Context, s jetstream.Stream, sequence uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerAnswer)
	defer cancel()
	m, err := s.GetMsg(ctx, sequence)
	if err != nil {
		return nil, fmt.Errorf("read the ledger at %d: %w", sequence, err)
	}
	return m, nil
}

// follow reads what is a lot.
func (l *Ledger) follow(ctx context.Context, s jetstream.Stream, from, last uint64, on func(uint64, []byte) error) error {
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	messages, err := c.Messages()
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	defer messages.Stop()
	for next := from; next <= last; next++ {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read the ledger at %d: %w", next, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read the ledger at %d: %w", next, err)
		}
		if meta.Sequence.Stream != next {
			return fmt.Errorf("read the ledger: message %d is missing", next)
		}
		if err := on(next, m.Data()); err != nil {
			return err
		}
	}
	return nil
}
