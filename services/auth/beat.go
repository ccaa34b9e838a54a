package auth

import (
	"context"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
)

// beatKey is an entry among the keys that all auth processes write again and
// again. What it holds does not matter.
const beatKey = "beat"

// beat finds out that the watch of keys tells of what is written now. It writes
// among the keys, which takes a majority of the store's servers, and counts only
// when the watch has come as far. To read something would not do: a server that
// is cut off from the others answers, from what it had, and a watch that has
// silently ended looks like one on which nothing happens.
func (s *Service) beat(ctx context.Context) {
	tick := time.NewTicker(s.cfg.StaleAfter / 4)
	defer tick.Stop()
	for {
		begun := time.Now()
		write, cancel := context.WithTimeout(ctx, s.cfg.StaleAfter/2)
		revision, err := s.deps.Store.Put(write, bus.Keys, beatKey, nil)
		cancel()
		if err == nil {
			s.ring.Wrote(revision, begun)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
