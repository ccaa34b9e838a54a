package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	edgev1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/edge/v1"
)

// busPeers reaches other edges over the bus.
type busPeers struct {
	bus *bus.Bus
	log *slog.Logger
}

// BusPeers returns the way to all edges on a bus. A nil log discards.
func BusPeers(b *bus.Bus, log *slog.Logger) Peers {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return busPeers{b, log}
}

// Listen implements [Peers].
func (p busPeers) Listen(ctx context.Context, node string, on PeerHandler) {
	subscribed(ctx, p.log, "other edges are not heard", func() (func(), error) {
		noCancels, err := bus.Subscribe(p.bus, bus.SubjectCancel, func(_ context.Context, c *edgev1.Cancel) { on.Cancel(c) })
		if err != nil {
			return nil, err
		}
		noAnswers, err := bus.Answer(p.bus, bus.SubjectAnswers+node, func(_ context.Context, a *edgev1.ClientAnswer) *edgev1.ClientAnswerReceipt {
			return &edgev1.ClientAnswerReceipt{Taken: on.Answer(a)}
		})
		if err != nil {
			noCancels()
			return nil, err
		}
		return func() { noCancels(); noAnswers() }, nil
	})
}

// Cancel implements [Peers].
func (p busPeers) Cancel(ctx context.Context, c *edgev1.Cancel) error {
	return bus.Publish(ctx, p.bus, bus.SubjectCancel, c)
}

// Answer implements [Peers].
func (p busPeers) Answer(ctx context.Context, node string, a *edgev1.ClientAnswer) (bool, error) {
	receipt, err := bus.Ask[*edgev1.ClientAnswer, *edgev1.ClientAnswerReceipt](ctx, p.bus, bus.SubjectAnswers+node, a)
	if errors.Is(err, bus.ErrNobody) {
		return false, nil
	}
	return receipt.GetTaken(), err
}

// busSessions keeps what clients have set in a bucket.
type busSessions struct{ bus *bus.Bus }

// BusSessions returns the store that all edges on a bus share.
func BusSessions(b *bus.Bus) Sessions { return busSessions{b} }

// Get implements [Sessions].
func (s busSessions) Get(ctx context.Context, id string) (*edgev1.SessionState, error) {
	state, _, err := s.get(ctx, id)
	return state, err
}

func (s busSessions) get(ctx context.Context, id string) (*edgev1.SessionState, uint64, error) {
	state := &edgev1.SessionState{}
	entry, err := s.bus.Get(ctx, bus.Sessions, id)
	if errors.Is(err, bus.ErrNotFound) {
		return state, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if err := proto.Unmarshal(entry.Value, state); err != nil {
		return nil, 0, fmt.Errorf("read the state of a session: %w", err)
	}
	return state, entry.Revision, nil
}

// maxUpdates bounds how often an update is tried against others: a client that
// does so much at once is told to try again.
const maxUpdates = 8

// Update implements [Sessions].
func (s busSessions) Update(ctx context.Context, id string, change func(*edgev1.SessionState) error) error {
	for range maxUpdates {
		state, revision, err := s.get(ctx, id)
		if err != nil {
			return err
		}
		if err := change(state); err != nil {
			return err
		}
		value, err := proto.Marshal(state)
		if err != nil {
			return fmt.Errorf("write the state of a session: %w", err)
		}
		if revision == 0 {
			_, err = s.bus.Create(ctx, bus.Sessions, id, value)
		} else {
			_, err = s.bus.Update(ctx, bus.Sessions, id, value, revision)
		}
		if !errors.Is(err, bus.ErrExists) && !errors.Is(err, bus.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("update a session: %w", bus.ErrConflict)
}
