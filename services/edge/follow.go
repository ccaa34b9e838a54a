package edge

import (
	"context"
	"time"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// refollow bounds how long to wait before the executor is asked again.
const refollow = 5 * time.Second

// follow keeps watching the executor until ctx is done.
func (s *Service) follow(ctx context.Context) {
	wait := 50 * time.Millisecond
	for told := false; ctx.Err() == nil; {
		err := s.watch(ctx, func() { wait, told = 50*time.Millisecond, false })
		if ctx.Err() != nil {
			return
		}
		if !told { // once for each outage
			s.log.WarnContext(ctx, "the executor cannot be watched; changes are not noticed", "err", err)
			told = true
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, refollow)
	}
}

// watch takes what the executor says until it stops saying anything, and passes
// it on to whoever listens. What was missed before it began again may have been
// anything.
func (s *Service) watch(ctx context.Context, heard func()) error {
	stream, err := s.executor.Watch(ctx, &executorv1.WatchRequest{})
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		w, err := stream.Recv()
		if err != nil {
			return err
		}
		heard()
		before := s.offers.Swap(&offers{resources: w.GetHasResources(), prompts: w.GetHasPrompts(), completion: w.GetHasCompletion()})
		if before == nil {
			before = &offers{}
		}
		fresh := s.tools.Announce(w.GetToolsVersion())
		n := news{
			tools:     first || fresh,
			prompts:   first || w.GetPromptsChanged() || before.prompts != w.GetHasPrompts(),
			resources: first || w.GetResourcesChanged() || before.resources != w.GetHasResources(),
			anything:  first,
		}
		if uris := w.GetUpdatedUris(); len(uris) > 0 {
			n.updated = make(map[string]bool, len(uris))
			for _, uri := range uris {
				n.updated[uri] = true
			}
		}
		if n.tools {
			s.refreshTools(ctx)
		}
		s.hub.Tell(n)
	}
}

// refreshTools gets the catalogue once for all who listen. When that fails each
// of them tries again.
func (s *Service) refreshTools(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PeerTimeout)
	defer cancel()
	_, _ = s.tools.Announced(ctx, s.executor)
}
