package edge

import (
	"context"
	"errors"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
)

// busRounds keeps used states on the bus for as long as they would be taken.
type busRounds struct{ bus *bus.Bus }

// BusRounds returns the memory of used request states that all edges on a bus
// share.
func BusRounds(b *bus.Bus) Rounds { return busRounds{b} }

// Use implements [Rounds].
func (r busRounds) Use(ctx context.Context, id string) (first bool, err error) {
	_, err = r.bus.Create(ctx, bus.Rounds, id, nil)
	if errors.Is(err, bus.ErrExists) {
		return false, nil
	}
	return err == nil, err
}
