package openapi

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// ListTools implements [providerv1.ProviderServiceServer]. It is what is known, and
// waits for no API. From now on calls are made by what it tells: a document that
// changes has no effect on them before the executor has seen the new definitions.
func (s *Service) ListTools(context.Context, *providerv1.ListToolsRequest) (*providerv1.ListToolsResponse, error) {
	s.merging.Lock()
	defer s.merging.Unlock()
	c := s.known.Load()
	s.listed.Store(c)
	return &providerv1.ListToolsResponse{Tools: c.definitions}, nil
}

// ListResources implements [providerv1.ProviderServiceServer]: there are none.
func (s *Service) ListResources(context.Context, *providerv1.ListResourcesRequest) (*providerv1.ListResourcesResponse, error) {
	return &providerv1.ListResourcesResponse{}, nil
}

// ListPrompts implements [providerv1.ProviderServiceServer]: there are none.
func (s *Service) ListPrompts(context.Context, *providerv1.ListPromptsRequest) (*providerv1.ListPromptsResponse, error) {
	return &providerv1.ListPromptsResponse{}, nil
}

// ReadResource implements [providerv1.ProviderServiceServer].
func (s *Service) ReadResource(context.Context, *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
	return nil, unknown("resource")
}

// GetPrompt implements [providerv1.ProviderServiceServer].
func (s *Service) GetPrompt(context.Context, *providerv1.GetPromptRequest) (*providerv1.GetPromptResponse, error) {
	return nil, unknown("prompt")
}

// Complete implements [providerv1.ProviderServiceServer].
func (s *Service) Complete(context.Context, *providerv1.CompleteRequest) (*providerv1.CompleteResponse, error) {
	return nil, unknown("prompt")
}

// watchPause is the least time between two messages to one who watches.
const watchPause = 200 * time.Millisecond

// Watch implements [providerv1.ProviderServiceServer].
func (s *Service) Watch(_ *providerv1.WatchRequest, stream grpc.ServerStreamingServer[providerv1.WatchResponse]) error {
	wake := s.watchers.join()
	defer s.watchers.leave(wake)
	has := func() bool { return len(s.known.Load().definitions) > 0 }
	if err := stream.Send(&providerv1.WatchResponse{HasTools: has()}); err != nil {
		return err
	}
	ctx := stream.Context()
	for {
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := stream.Send(&providerv1.WatchResponse{ToolsChanged: true, HasTools: has()}); err != nil {
			return err
		}
		select {
		case <-time.After(watchPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watchers are those who watch, each by a channel that has room for one. The zero
// value has none.
type watchers struct {
	mu  sync.Mutex
	all map[chan struct{}]bool
}

func (w *watchers) join() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[chan struct{}]bool{}
	}
	wake := make(chan struct{}, 1)
	w.all[wake] = true
	return wake
}

func (w *watchers) leave(wake chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, wake)
}

func (w *watchers) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for wake := range w.all {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}
