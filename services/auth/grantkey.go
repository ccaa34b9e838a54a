package auth

import (
	"context"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/grant"
)

// grantKeyPoll is how often the file of the grant key is looked at.
const grantKeyPoll = 5 * time.Second

// followGrantKey signs with the key that the file holds until ctx is done. A file
// that is gone or cannot be read changes nothing: the executors know the key that
// was in it.
func (s *Service) followGrantKey(ctx context.Context) {
	tick := time.NewTicker(grantKeyPoll)
	defer tick.Stop()
	troubled := false
	for {
		before := s.grantKey.Key()
		_, err := s.grantKey.Refresh()
		key := s.grantKey.Key()
		switch {
		case err != nil && !troubled:
			s.log.Error("the grant key cannot be read, the one before stays in use", "err", err)
		case err == nil && key.ID() != before.ID():
			s.keysSeen.Store(&grantKeys{now: key, before: before})
			s.sealer.Store(grant.NewSealer(key))
			if err := s.receipts.Turn(key); err != nil {
				s.log.Error("receipts of proofs are sealed with the key before", "err", err)
			}
			s.log.Info("grants are signed with another key", "key", key.ID())
		}
		troubled = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
