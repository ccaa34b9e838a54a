package edge

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// resubscribe is how long to wait before another attempt to subscribe.
const resubscribe = time.Second

// busNotices hears of changed credentials on the bus.
type busNotices struct {
	bus        *bus.Bus
	log        *slog.Logger
	subscribed atomic.Bool
}

// BusNotices returns the notices that auth sends over a bus. A nil log discards.
func BusNotices(b *bus.Bus, log *slog.Logger) Notices {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &busNotices{bus: b, log: log}
}

// Listen implements [Notices].
func (n *busNotices) Listen(ctx context.Context, changed func()) {
	subscribed(ctx, n.log, "no notices of changed credentials; every request asks auth", func() (func(), error) {
		stop, err := n.subscribe(ctx, changed)
		if err != nil {
			return nil, err
		}
		return func() { n.subscribed.Store(false); stop() }, nil
	})
}

// subscribed keeps a subscription until ctx is done, and tries again where there
// cannot be one just now.
func subscribed(ctx context.Context, log *slog.Logger, without string, subscribe func() (stop func(), err error)) {
	for ctx.Err() == nil {
		stop, err := subscribe()
		if err == nil {
			<-ctx.Done()
			stop()
			return
		}
		if ctx.Err() != nil {
			return
		}
		log.WarnContext(ctx, without, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(resubscribe):
		}
	}
}

func (n *busNotices) subscribe(ctx context.Context, changed func()) (stop func(), err error) {
	stop, err = bus.Subscribe(n.bus, bus.SubjectCredentials, func(context.Context, *authv1.Key) { changed() })
	if err != nil {
		return nil, err
	}
	// Only when the server has answered is the subscription known to be there.
	check, cancel := context.WithTimeout(ctx, resubscribe)
	defer cancel()
	if err := n.bus.Check(check); err != nil {
		stop()
		return nil, err
	}
	changed() // what was remembered before may be out of date
	n.subscribed.Store(true)
	return stop, nil
}

// Epoch implements [Notices]. Notices that were sent while the connection was
// broken are lost, so each reconnection starts a new epoch.
func (n *busNotices) Epoch() (epoch uint64, live bool) {
	conn := n.bus.Conn()
	return conn.Stats().Reconnects, n.subscribed.Load() && conn.IsConnected()
}

// Policies is how the edge hears that policies have changed, so that it can tell
// clients whose lists may be others now.
type Policies interface {
	// Listen calls changed with the version of the policies for each notice until
	// ctx is done. It keeps trying where it cannot listen just now.
	Listen(ctx context.Context, changed func(version string))
}

// busPolicies hears of changed policies on the bus.
type busPolicies struct {
	bus *bus.Bus
	log *slog.Logger
}

// BusPolicies returns the notices of policies that auth sends over a bus. A nil
// log discards.
func BusPolicies(b *bus.Bus, log *slog.Logger) Policies {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return busPolicies{b, log}
}

// Listen implements [Policies].
func (p busPolicies) Listen(ctx context.Context, changed func(version string)) {
	subscribed(ctx, p.log, "no notices of changed policies; clients do not hear of them", func() (func(), error) {
		return bus.Subscribe(p.bus, bus.SubjectPolicies, func(_ context.Context, n *authv1.PolicyNotice) { changed(n.GetVersion()) })
	})
}
