package approval

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
)

// firstUse is a tool that nobody has seen before.
type firstUse struct {
	offer Offer
	unfit bool // cannot be written as it is
}

// wait notes that a tool is new. The caller holds the lock.
func (s *Store) wait(key string, o Offer) {
	old := s.waiting[key]
	if old != nil && bytes.Equal(old.offer.Digest, o.Digest) {
		return
	}
	if old == nil {
		if s.counts[o.Service] >= MaxFirstUses {
			if !s.full[o.Service] {
				s.full[o.Service] = true
				s.log.Warn("a service has too many tools to approve new ones unasked", "service", o.Service, "limit", MaxFirstUses)
			}
			return
		}
		s.counts[o.Service]++
	}
	s.waiting[key] = &firstUse{offer: o}
	select {
	case s.wake <- struct{}{}:
	default: // it will look at all that waits
	}
}

// approveFirstUses writes approvals of what is new, again and again while the
// bucket does not answer, until ctx is done.
func (s *Store) approveFirstUses(ctx context.Context) {
	const soon = 100 * time.Millisecond
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		for wait := soon; ; wait = min(2*wait, timeout) {
			err := s.approveWaiting(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			if wait == soon { // once for each outage
				s.log.Warn("new tools stay withheld: their approval cannot be written", "err", err)
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		}
	}
}

// approveWaiting approves all that waits, and tells of it once: a service that
// joins brings many tools at a time.
func (s *Store) approveWaiting(ctx context.Context) error {
	s.mu.Lock()
	todo := maps.Clone(s.waiting)
	s.hushed = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hushed = false
		if s.news {
			s.news = false
			s.tell()
		}
	}()
	for _, key := range slices.Sorted(maps.Keys(todo)) {
		if err := s.approveFirst(ctx, key, todo[key]); err != nil {
			return err
		}
	}
	return nil
}

// approveFirst writes that a tool is in use, unless some executor was faster:
// then its word counts.
func (s *Store) approveFirst(ctx context.Context, key string, f *firstUse) error {
	s.mu.Lock()
	skip := f.unfit || s.waiting[key] != f // it is known by now, or another definition is the one to write
	s.mu.Unlock()
	if skip {
		return nil
	}
	a := approve(f.offer, FirstUse)
	value, err := s.codec.encode(a)
	if err != nil {
		s.log.Error("a definition cannot be kept, so its tool is withheld", "key", key, "err", err)
		s.mu.Lock()
		f.unfit = true
		s.mu.Unlock()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	revision, err := s.bucket.Create(ctx, bus.Approvals, key, value)
	switch {
	case errors.Is(err, bus.ErrExists):
		e, err := s.bucket.Get(ctx, bus.Approvals, key)
		if err != nil {
			return err
		}
		s.told(e)
		return nil
	case err != nil:
		return err
	}
	s.put(key, remember(a, revision))
	event := Event("executor", "tool.approve", f.offer, map[string]string{"by": FirstUse, "new": Short(f.offer.Digest)})
	if err := s.audit.Record(ctx, event); err != nil {
		s.log.Error("the first use of a tool could not be recorded", "key", key, "err", err)
	}
	return nil
}
