package approval

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// firstUse is a definition that nobody has seen before.
type firstUse struct {
	offer Offer
	unfit bool // cannot be written as it is
}

// wait notes that a tool is new, or has changed. The caller holds the lock.
func (s *Store) wait(key string, o Offer) {
	old := s.waiting[key]
	if old != nil && bytes.Equal(old.offer.Digest, o.Digest) {
		return
	}
	if _, known := s.entries[key]; old == nil && !known {
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

// approveFirst writes that a definition is in use, unless some executor was
// faster: then its word counts.
func (s *Store) approveFirst(ctx context.Context, key string, f *firstUse) error {
	s.mu.Lock()
	skip := f.unfit || s.waiting[key] != f // it is known by now, or another definition is the one to write
	e, known := s.entries[key]
	s.mu.Unlock()
	if skip {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	by, old := FirstUse, (*executorv1.Approval)(nil)
	if known {
		entry, err := s.bucket.Get(ctx, bus.Approvals, key)
		if err == nil {
			old, err = s.codec.decode(key, entry.Value)
		}
		if err != nil {
			return err
		}
		if by = Covered; entry.Revision != e.revision {
			s.told(entry)
			return nil
		}
	}
	a, value, err := s.write(f.offer, by, old)
	if err != nil {
		s.log.Error("a definition cannot be kept, so its tool is withheld", "key", key, "err", err)
		s.mu.Lock()
		f.unfit = true
		s.mu.Unlock()
		return nil
	}
	var revision uint64
	if known {
		revision, err = s.bucket.Update(ctx, bus.Approvals, key, value, e.revision)
	} else {
		revision, err = s.bucket.Create(ctx, bus.Approvals, key, value)
	}
	switch {
	case errors.Is(err, bus.ErrExists), errors.Is(err, bus.ErrConflict):
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
	details := map[string]string{"by": by, "new": Short(f.offer.Digest)}
	operation := "tool.approve"
	if known {
		operation, details["old"], details["changes"] = "tool.change", Short(old.GetDigest()), Changes(old.GetDefinition(), f.offer.Definition)
		s.log.Info("a tool has changed", "service", f.offer.Service, "tool", f.offer.Name, "changes", details["changes"])
	}
	if err := s.audit.Record(ctx, Event("executor", operation, f.offer, details)); err != nil {
		s.log.Error("the first use of a definition could not be recorded", "key", key, "err", err)
	}
	return nil
}

// write makes an approval and its entry. Where only options are compared they
// alone are kept of what does not fit.
func (s *Store) write(o Offer, by string, old *executorv1.Approval) (*executorv1.Approval, []byte, error) {
	a := approve(o, by)
	a.Replaced = replaced(old, a)
	value, err := s.codec.encodeShort(a)
	if err == nil || s.cfg.Mode(o.Service, o.Provider) != ModeLoosened {
		return a, value, err
	}
	a.Definition = shortened(o.Definition)
	value, err = s.codec.encodeShort(a)
	return a, value, err
}
