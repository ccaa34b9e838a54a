package auth

import (
	"context"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// fileInterval is how often the files of policies are read.
const fileInterval = time.Second

// followFiles looks again and again whether the configured files have changed,
// until ctx is done. Contents count and not times or events: a ConfigMap changes
// by one symbolic link, and files on a network have no events.
//
// What has changed is taken when it was read twice, an interval apart, and was the
// same. So nothing is taken that was read while a link moved from one folder to
// another, and hardly ever a file that somebody is still writing.
func (s *Service) followFiles(ctx context.Context) {
	if len(s.cfg.Policies) == 0 {
		return
	}
	tick := time.NewTicker(fileInterval)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		files, err := policy.ReadFiles(s.cfg.Policies)
		version := policy.Version(files)
		if err != nil {
			version = err.Error()
		}
		if version == last {
			s.policies.reload(files, err)
		}
		last = version
	}
}
