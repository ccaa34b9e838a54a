package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/pkg/taint"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// What a context has seen is asked of the store for each decision that depends on it,
// and of the server that leads there: an executor may have written it a moment ago,
// through another one. It fails closed: where the store does not tell there is no
// decision, and a record that cannot be read stands for one that has seen everything.

// SeenConfig says how far what was read in one context counts in others.
type SeenConfig struct {
	// Carry is how long untrusted content that a caller has read in any context counts
	// in his other contexts too: he may have brought it along. 0: a context that the
	// client names is believed to be another task from its start.
	Carry time.Duration `yaml:"carry"`
}

// seen tells what the context of a call has seen. The error is a fault.
func (s *Service) seen(ctx context.Context, c *caller, req *authv1.AuthorizeRequest, now time.Time) (*policy.Seen, error) {
	who := c.principal.GetId()
	name, all := taint.Name(who, req.GetOrigin()), taint.OfPrincipal(who)
	own, err := s.contextNow(ctx, name, now)
	if err != nil {
		return nil, err
	}
	seen := &policy.Seen{Labels: own.Labels()}
	if carry := s.cfg.Seen.Carry; carry > 0 || name == all {
		others := own
		if name != all {
			if others, err = s.contextNow(ctx, all, now); err != nil {
				return nil, err
			}
			since := now.Add(-carry - taint.Grain)
			for _, l := range others.Labels() {
				if taint.Untrusted(l) && (l.GetTime() == nil || !l.GetTime().AsTime().Before(since)) {
					seen.Labels = append(seen.Labels, l)
				}
			}
		}
		// Without a context of its own a call may go on with any task.
		seen.Labels = append(seen.Labels, others.Elsewhere(now.Add(-carry-taint.Grain))...)
	}
	switch {
	case !own.Doubts():
		seen.Suspects = []string{}
	case len(req.GetArguments()) > 0:
		if seen.Suspects, err = own.Suspects(req.GetArguments()); err != nil { // it cannot be looked into
			seen.Suspects = []string{"*"}
		}
		seen.Suspects = append([]string{}, seen.Suspects...) // known, if there is none
	}
	return seen, nil
}

// contextNow reads the record of a context.
func (s *Service) contextNow(ctx context.Context, name string, now time.Time) (*taint.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	found, err := s.deps.Store.Current(ctx, bus.Contexts, name)
	if errors.Is(err, bus.ErrNotFound) {
		return taint.NewRecord(), nil
	}
	if err != nil {
		return nil, fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY, "what this context has read is not known just now").
			After(time.Second).Because(fmt.Errorf("read a context: %w", err))
	}
	r, err := taint.Open(name, found.Value, s.keysSeen.Load().find(taint.KeyID(found.Value)), now)
	if err != nil {
		s.log.Warn("the record of a context is not good, it counts as one that has seen everything", "entry", name, "err", err)
		return taint.Suspect(), nil
	}
	return r, nil
}

// grantKeys are the grant key that is in use and the one before: an executor seals a
// context with the key of the grant that it was shown.
type grantKeys struct {
	now, before secret.Key
}

func (k *grantKeys) find(id string) []byte {
	if k == nil || id == "" {
		return nil
	}
	for _, key := range []secret.Key{k.now, k.before} {
		if len(key.Bytes()) > 0 && key.ID() == id {
			return key.Bytes()
		}
	}
	return nil
}
