package catalogue

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// publish puts the catalogue on the bus whenever it has changed, for auth.
func (c *Catalogue) publish(ctx context.Context, b *bus.Bus) {
	const soon = 100 * time.Millisecond
	wait, published := soon, ""
	for ctx.Err() == nil {
		s := c.Current()
		if c.Loaded() == nil && s.Version != published {
			if err := put(ctx, b, s); err != nil {
				if wait == soon {
					c.log.Warn("catalogue cannot be published", "err", err)
				}
				wait = min(2*wait, 5*time.Second)
				pause(ctx, wait)
				continue
			}
			published, wait = s.Version, soon
		}
		select {
		case <-s.Superseded():
		case <-ctx.Done():
		}
	}
}

// put writes what policies may know. Withheld tools are in it: whether somebody
// may call one is not for the hold to say, and he shall hear that it is withheld.
func put(ctx context.Context, b *bus.Bus, s *Snapshot) error {
	msg := &executorv1.Catalogue{Version: s.Version}
	for _, e := range s.published {
		msg.Entries = append(msg.Entries, published(&e.Face))
	}
	nameArguments(msg, s.published, maxPublished)
	raw, err := proto.Marshal(msg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = b.Put(ctx, bus.Catalogue, "current", raw)
	return err
}

// nameArguments adds the names of arguments where they are known, as long as the
// message stays within a size: without them nothing is missing but a warning, so
// they take no room from tools.
func nameArguments(msg *executorv1.Catalogue, of []*Entry, most int) {
	left := most - proto.Size(msg)
	for i, e := range of {
		if !e.ArgumentsKnown {
			continue
		}
		extra := proto.Size(&executorv1.Catalogue_Entry{Arguments: e.Arguments, ArgumentsKnown: true}) + 2 // the entry's length grows too
		if extra > left {
			return
		}
		left -= extra
		msg.Entries[i].Arguments, msg.Entries[i].ArgumentsKnown = e.Arguments, true
	}
}
