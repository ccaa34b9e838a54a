package mcpbridge

import (
	"sync"
	"time"

	"google.golang.org/grpc"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// watchPause is the least time between two messages to one who watches: an
// upstream that changes all the time must not keep the others' edges busy.
const watchPause = 200 * time.Millisecond

// maxUpdated bounds the resources that one message names. With more, the message
// says that all may have changed.
const maxUpdated = 256

// news is what has changed since one who watches was last told.
type news struct {
	tools, resources, prompts bool
	updated                   []string
}

func (n news) none() bool { return !n.tools && !n.resources && !n.prompts && len(n.updated) == 0 }

func (n *news) add(m news) {
	n.tools = n.tools || m.tools
	n.resources = n.resources || m.resources
	n.prompts = n.prompts || m.prompts
	for _, uri := range m.updated {
		seen := false
		for _, u := range n.updated {
			seen = seen || u == uri
		}
		switch {
		case seen:
		case len(n.updated) == maxUpdated:
			n.resources = true
		default:
			n.updated = append(n.updated, uri)
		}
	}
}

// watchers are those who watch. The zero value has none.
type watchers struct {
	mu  sync.Mutex
	all map[*watcher]bool
}

type watcher struct {
	wake    chan struct{} // has room for one
	pending news          // guarded by watchers.mu
}

func (w *watchers) join() *watcher {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[*watcher]bool{}
	}
	one := &watcher{wake: make(chan struct{}, 1)}
	w.all[one] = true
	return one
}

func (w *watchers) leave(one *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, one)
}

func (w *watchers) tell(n news) {
	if n.none() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		one.pending.add(n)
		select {
		case one.wake <- struct{}{}:
		default:
		}
	}
}

func (w *watchers) take(one *watcher) news {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := one.pending
	one.pending = news{}
	return n
}

// Watch implements [providerv1.ProviderServiceServer].
func (s *Service) Watch(_ *providerv1.WatchRequest, stream grpc.ServerStreamingServer[providerv1.WatchResponse]) error {
	one := s.watchers.join()
	defer s.watchers.leave(one)
	if err := stream.Send(s.known.Load().has(&providerv1.WatchResponse{})); err != nil {
		return err
	}
	ctx := stream.Context()
	for {
		select {
		case <-one.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		n := s.watchers.take(one)
		err := stream.Send(s.known.Load().has(&providerv1.WatchResponse{
			ToolsChanged: n.tools, ResourcesChanged: n.resources, PromptsChanged: n.prompts, UpdatedUris: n.updated,
		}))
		if err != nil {
			return err
		}
		select {
		case <-time.After(watchPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
