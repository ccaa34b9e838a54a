package auth

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// The wait before a notice is sent again doubles from the one to the other.
const (
	shortestPause = 100 * time.Millisecond
	longestPause  = 5 * time.Second
)

// announce says that other policies may be in use.
func (s *Service) announce() {
	select {
	case s.news <- struct{}{}:
	default: // it is said already
	}
}

// announcePolicies tells all edges which policies are in use: once there are
// answers, for the edges ask again when they hear of policies, and then of each
// change. It does so until ctx is done.
func (s *Service) announcePolicies(ctx context.Context) {
	told := ""
	for {
		select {
		case <-s.news:
		case <-ctx.Done():
			return
		}
		set := s.scene.current().set
		if !s.keysKnown.Load() || set == nil || set.Version() == told {
			continue
		}
		told = s.tellEdges(ctx)
	}
}

// tellEdges sends which policies are in use until the bus has taken it or ctx is
// done, and returns what it has sent.
func (s *Service) tellEdges(ctx context.Context) (version string) {
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		version := s.scene.current().set.Version() // it may have changed since the last attempt
		attempt, cancel := context.WithTimeout(ctx, storeTimeout)
		err := s.deps.NotifyPolicies(attempt, &authv1.PolicyNotice{Version: version})
		cancel()
		switch {
		case err == nil:
			s.log.Info("told all edges which policies are in use", "version", version)
			return version
		case ctx.Err() != nil:
			return ""
		case pause == shortestPause:
			s.log.Warn("the edges could not be told which policies are in use, trying again", "err", err)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return ""
		}
	}
}

// overBus returns what sends a notice and waits until the server has it.
func overBus(b *bus.Bus) func(context.Context, *authv1.PolicyNotice) error {
	return func(ctx context.Context, notice *authv1.PolicyNotice) error {
		if err := bus.Publish(ctx, b, bus.SubjectPolicies, notice); err != nil {
			return err
		}
		// Without a connection the notice is in memory only; to send it twice does
		// no harm.
		return b.Check(ctx)
	}
}
