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

// watch takes what the executor says until it stops saying anything.
func (s *Service) watch(ctx context.Context, heard func()) error {
	news, err := s.executor.Watch(ctx, &executorv1.WatchRequest{})
	if err != nil {
		return err
	}
	for {
		w, err := news.Recv()
		if err != nil {
			return err
		}
		heard()
		s.offers.Swap(&offers{resources: w.GetHasResources(), prompts: w.GetHasPrompts(), completion: w.GetHasCompletion()})
	}
}
