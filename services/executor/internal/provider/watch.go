package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
)

// MaxUpdated bounds the URIs that wait to be told of.
const MaxUpdated = 256

// How many messages of a Watch are read: so many at once, and so many in each second
// after that. A provider that has more to tell waits.
const (
	newsBurst  = 100
	newsSteady = 20
)

// News is what has changed since it was last asked. However fast a provider
// tells, what waits is bounded.
type News struct {
	// Changed says that the provider has to be asked again what it has.
	Changed bool
	// Updated are URIs of resources whose contents have changed.
	Updated []string
}

// Watching is an open Watch.
type Watching struct {
	mu      sync.Mutex
	has     Has
	changed bool
	updated map[string]bool
	err     error
	wake    chan struct{} // holds one
}

// Watch opens a Watch and waits for its first message. It is read until ctx is
// done or the provider ends it, by what run is given to run.
func Watch(ctx context.Context, conn grpc.ClientConnInterface, check *rules.Checker, run func(func())) (*Watching, error) {
	opening, opened := context.WithCancelCause(ctx)
	late := time.AfterFunc(asking, func() { opened(context.DeadlineExceeded) })
	defer late.Stop()
	stream, err := providerv1.NewProviderServiceClient(conn).Watch(opening, &providerv1.WatchRequest{}, grpc.MaxCallRecvMsgSize(MaxListBytes))
	if err != nil {
		return nil, fmt.Errorf("watch: %w", fault.Receive(err))
	}
	first, err := receive(stream, check)
	if err != nil {
		opened(nil)
		if errors.Is(context.Cause(opening), context.DeadlineExceeded) {
			err = context.DeadlineExceeded
		}
		return nil, fmt.Errorf("watch: %w", err)
	}
	if !late.Stop() {
		opened(nil)
		return nil, fmt.Errorf("watch: %w", context.DeadlineExceeded)
	}
	w := &Watching{
		has:     Has{}.and(first),
		updated: make(map[string]bool), wake: make(chan struct{}, 1),
	}
	run(func() {
		defer opened(nil)
		w.read(stream, check)
	})
	return w, nil
}

// Has returns which kinds the provider has said that it has.
func (w *Watching) Has() Has {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.has
}

// and adds what a message says. Nothing is ever taken back: an empty list is
// no news of a kind that is gone.
func (h Has) and(m *providerv1.WatchResponse) Has {
	return Has{
		Resources:  h.Resources || m.GetHasResources(),
		Prompts:    h.Prompts || m.GetHasPrompts(),
		Completion: h.Completion || m.GetHasCompletion(),
	}
}

func receive(stream grpc.ServerStreamingClient[providerv1.WatchResponse], check *rules.Checker) (*providerv1.WatchResponse, error) {
	m, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the provider has ended it")
	}
	if err != nil {
		return nil, fault.Receive(err)
	}
	return m, broken(check, m)
}

func (w *Watching) read(stream grpc.ServerStreamingClient[providerv1.WatchResponse], check *rules.Checker) {
	pace := rate.NewLimiter(newsSteady, newsBurst)
	for {
		var m *providerv1.WatchResponse
		err := pace.Wait(stream.Context())
		if err == nil {
			m, err = receive(stream, check)
		}
		w.mu.Lock()
		if err != nil {
			w.err = err
		}
		had := w.has
		w.has = had.and(m)
		w.changed = w.changed || w.has != had || m.GetToolsChanged() || m.GetResourcesChanged() || m.GetPromptsChanged()
		for _, uri := range m.GetUpdatedUris() {
			if len(w.updated) < MaxUpdated { // more are lost, as notices may be
				w.updated[uri] = true
			}
		}
		w.mu.Unlock()
		select {
		case w.wake <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// Next waits for news. It returns an error when the Watch has ended.
func (w *Watching) Next(ctx context.Context) (News, error) {
	select {
	case <-w.wake:
	case <-ctx.Done():
		return News{}, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return News{}, w.err
	}
	n := News{Changed: w.changed}
	for uri := range w.updated {
		n.Updated = append(n.Updated, uri)
	}
	w.changed = false
	clear(w.updated)
	return n, nil
}
