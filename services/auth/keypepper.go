package auth

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/bundle"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
)

const (
	// maxOldPeppers bounds what each attempt costs: it is hashed with every pepper.
	maxOldPeppers = 4
	// renewInterval is how often keys are looked through for what was made with an
	// old pepper.
	renewInterval = time.Minute
	// renewPause and renewAtOnce bound how fast they are written anew.
	renewPause  = time.Second
	renewAtOnce = 64
)

// validatePeppers checks the files that are named beside the current pepper.
func (c Config) validatePeppers() error {
	var errs []error
	if len(c.OldPepperFiles) > maxOldPeppers {
		errs = append(errs, fmt.Errorf("old_pepper_files: %d are more than %d", len(c.OldPepperFiles), maxOldPeppers))
	}
	for i, path := range c.OldPepperFiles {
		if path == "" {
			errs = append(errs, fmt.Errorf("old_pepper_files[%d]: empty", i))
		}
	}
	return errors.Join(errs...)
}

// readPeppers reads the current pepper, or makes one, and those beside it.
func readPeppers(cfg Config, deps Deps) (*apikey.Peppers, error) {
	current, err := material(cfg.PepperFile, filepath.Join(deps.StateDir, "secrets", "pepper.key"), deps.Log)
	if err != nil {
		return nil, fmt.Errorf("pepper_file: %w", err)
	}
	var next, old []secret.Key
	if cfg.NextPepperFile != "" {
		key, err := secret.Load(cfg.NextPepperFile)
		if err != nil {
			return nil, fmt.Errorf("next_pepper_file: %w", err)
		}
		next = append(next, key)
	}
	for i, path := range cfg.OldPepperFiles {
		key, err := secret.Load(path)
		if err != nil {
			return nil, fmt.Errorf("old_pepper_files[%d]: %w", i, err)
		}
		old = append(old, key)
	}
	peppers, err := apikey.NewPeppers(current, next, old)
	if err != nil {
		return nil, fmt.Errorf("pepper_file, next_pepper_file, old_pepper_files: %w", err)
	}
	return peppers, nil
}

// renewPeppers moves keys from old peppers to the current one, until ctx is done,
// and tells the operator when the old ones are of no more use. A record can be
// sealed anew at any time; a secret can be hashed anew once it was shown.
func (s *Service) renewPeppers(ctx context.Context) {
	for id, n := range s.ring.OldPeppers(time.Now()) {
		s.log.Warn("keys depend on a pepper that is not the current one", "pepper", id, "keys", n, "file_is_here", s.peppers.Find(id) != nil)
	}
	if !s.peppers.Replaces() {
		return
	}
	for said := false; ; {
		more, clean := s.renewBatch(ctx)
		clean = clean && len(s.ring.OldPeppers(time.Now())) == 0
		if clean && !said {
			s.log.Info("nothing depends on an old pepper: old_pepper_files can go")
		}
		said = clean
		pause := renewInterval
		if more {
			pause = renewPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// renewBatch writes the policies and some keys anew. It reports whether there may be
// more keys at once, and whether all that was there to write is written. It stops at
// the first that the store does not take, and goes on another time.
func (s *Service) renewBatch(ctx context.Context) (more, clean bool) {
	if s.ring.Ready() != nil {
		return false, false
	}
	hashed, sealed := 0, 0
	done, err := s.renewPolicies(ctx)
	if done {
		sealed++
	}
	var hashes []keyring.Rehash
	if err == nil {
		hashes = s.ring.TakeRehashes(renewAtOnce)
	}
	for i, h := range hashes {
		if done, err = s.renew(ctx, h.ID, h); err != nil {
			s.keepRehashes(hashes[i:])
			break
		}
		if done {
			hashed++
		}
	}
	var seals []string
	if err == nil {
		seals = s.ring.OldSeals(renewAtOnce)
	}
	for _, id := range seals {
		if done, err = s.renew(ctx, id, keyring.Rehash{}); err != nil {
			break
		}
		if done {
			sealed++
		}
	}
	if hashed+sealed > 0 {
		s.recordRenewal(ctx, hashed, sealed)
	}
	if err != nil {
		s.log.Warn("a key or the policies could not be moved from an old pepper", "err", err)
		return false, false
	}
	more = len(hashes) == renewAtOnce || len(seals) == renewAtOnce
	return more, !more
}

// keepRehashes keeps for another time what could not be stored, but not of keys
// that are gone.
func (s *Service) keepRehashes(hashes []keyring.Rehash) {
	for _, h := range hashes {
		if s.ring.Get(h.ID) != nil {
			s.ring.AddRehash(h)
		}
	}
}

// renew writes one key anew. It does nothing to one that has changed meanwhile so
// that there is nothing left to do.
func (s *Service) renew(ctx context.Context, id string, h keyring.Rehash) (done bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err = s.change(ctx, id, func(r *keyring.Record, _ time.Time) (bool, error) {
		changed := h.ID != "" && h.Apply(r, s.peppers.Current())
		done = changed || s.peppers.Old(r.Sealed)
		return done, nil
	})
	return done, err
}

// renewPolicies seals the store's policies anew, as they are.
func (s *Service) renewPolicies(ctx context.Context) (done bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	entry, err := s.deps.Store.Get(ctx, bus.Policies, policyKey)
	if errors.Is(err, bus.ErrNotFound) || err == nil && (entry.Deleted || !s.peppers.Old(bundle.SealedBy(entry.Value))) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read policies: %w", err)
	}
	b, err := bundle.Decode(entry.Value, sealersOf(s.peppers)...)
	if err != nil {
		return false, err
	}
	value, err := bundle.Encode(b, s.peppers.Current())
	if err != nil {
		return false, err
	}
	if _, err := s.deps.Store.Update(ctx, bus.Policies, policyKey, value, entry.Revision); err != nil {
		return false, fmt.Errorf("write policies: %w", err) // also where somebody else has: the next round sees
	}
	return true, nil
}

// sealersOf returns peppers as policies are sealed with them.
func sealersOf(p *apikey.Peppers) (all []bundle.Sealer) {
	for _, pepper := range p.All() {
		all = append(all, pepper)
	}
	return all
}

// recordRenewal puts on record that keys were written: by this service itself, and
// with nothing changed that anybody could notice.
func (s *Service) recordRenewal(ctx context.Context, hashed, sealed int) {
	e := &auditv1.Event{
		Actor:  &auditv1.Actor{Principal: "role:auth"},
		Action: "key.repepper",
		What: &auditv1.Event_Admin{Admin: &auditv1.AdminChange{
			Operation: "key.repepper",
			Object:    s.peppers.Current().ID(),
			Details:   map[string]string{"secrets": strconv.Itoa(hashed), "records": strconv.Itoa(sealed)},
		}},
	}
	if err := s.deps.Audit.Record(ctx, e); err != nil {
		s.log.Warn("that keys were moved from an old pepper could not be recorded", "err", err)
	}
}
