package catalogue

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	probeTimeout = time.Second
	// maxMissed is how many probes in a row may go unanswered before a replica
	// counts as down.
	maxMissed = 2
	// soonest and latest are how long a replica that is down is left alone.
	soonest = 100 * time.Millisecond
	latest  = 5 * time.Second
)

// health is how a replica is.
type health int

const (
	serving health = iota
	refusing
	away   // not there
	silent // there, perhaps
	mute   // there, and has no health service or does not let us ask it
)

// follow asks the replica how it is until it is retired: once in a while, and
// soon again while it is down. One that is mute is asked after it did not answer
// a call.
func (r *replica) follow() {
	every, wait, missed := r.catalogue.opts.Health, soonest, 0
	for {
		switch woken, ok := r.rest(wait); {
		case !ok:
			return
		case woken:
			if wait = soonest; !pause(r.ctx, wait) {
				return
			}
		}
		how := r.probe()
		if r.ctx.Err() != nil {
			return
		}
		if how != silent {
			missed = 0
		}
		down := how == away || r.down.Load()
		switch how {
		case serving, refusing, mute:
			down, wait = false, every
		case silent:
			missed++
			down = down || missed >= maxMissed
		}
		if how == mute {
			wait = 0
		} else if down {
			wait = min(2*wait, latest)
		} else if how == silent {
			wait = soonest
		}
		changed := r.down.Swap(down) != down
		changed = r.unwell.Swap(how == refusing) != (how == refusing) || changed
		if changed {
			r.catalogue.refresh()
		}
	}
}

// rest waits for about d, for ever if d is 0, or until the replica did not answer
// a call, which is reported as woken. It reports !ok when the replica is retired.
func (r *replica) rest(d time.Duration) (woken, ok bool) {
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(about(d))
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
		return false, true
	case <-r.ill:
		return true, true
	case <-r.ctx.Done():
		return false, false
	}
}

// fail marks the replica as down, until it answers.
func (r *replica) fail() {
	if r.down.Swap(true) {
		return
	}
	r.catalogue.refresh()
	select {
	case r.ill <- struct{}{}:
	default:
	}
}

// probe asks the replica how it is.
func (r *replica) probe() health {
	ctx, cancel := context.WithTimeout(r.ctx, probeTimeout)
	defer cancel()
	resp, err := healthv1.NewHealthClient(r.conn).Check(ctx, &healthv1.HealthCheckRequest{})
	switch status.Code(err) {
	case codes.OK:
		if resp.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			return serving
		}
		return refusing
	case codes.Unimplemented, codes.PermissionDenied, codes.NotFound:
		return mute
	case codes.Unavailable:
		return away
	}
	return silent
}
