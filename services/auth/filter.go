package auth

import (
	"context"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

const (
	// maxTarget is how many bytes of a target Authorize takes. What is longer
	// could be listed and then not be used, so it is not listed.
	maxTarget = 512
	// glance is how many targets are decided before a look whether the caller
	// still waits.
	glance = 256
)

// filter returns the targets that a caller may read or get with some arguments, in
// their order.
func (s *Service) filter(ctx context.Context, c *caller, req *authv1.FilterTargetsRequest, now time.Time) ([]string, error) {
	if c.toolsOnly() {
		return nil, nil
	}
	set := s.scene.current().set
	if set == nil {
		return nil, notReady()
	}
	object := policy.NewResource
	if req.GetAction() == authv1.Action_ACTION_PROMPTS_GET {
		object = policy.NewPrompt
	}
	sweep := set.NewSweep(c.subject, actions[req.GetAction()].policy, object,
		policy.Situation{Origin: req.GetOrigin(), Time: now})
	var allowed []string
	for i, target := range req.GetTargets() {
		if i%glance == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if len(target) <= maxTarget && sweep.Callable(target) {
			allowed = append(allowed, target)
		}
	}
	return allowed, nil
}
