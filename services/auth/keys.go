package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/pkg/identity"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
)

const (
	// storeTimeout bounds each question to the store, and the wait for the audit
	// stream.
	storeTimeout = 5 * time.Second
	// maxConflicts is how often a change is tried again when somebody else has
	// changed the same key.
	maxConflicts = 5
	// defaultTenant is the tenant of keys for which none was given.
	defaultTenant = "default"
)

// create makes a key. The audit event comes first and the key after it: a key
// that nobody heard of must not exist, while an event about a key that could not
// be stored does no harm, and is followed by another that says so.
func (s *Service) create(ctx context.Context, req *authv1.CreateKeyRequest) (*keyring.Key, apikey.Token, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	now := time.Now().UTC()
	record, err := s.describe(req, now)
	if err != nil {
		return nil, apikey.Token{}, err
	}
	token := apikey.Mint(s.cfg.Env)
	sum := s.peppers.Current().Sum(token)
	record.ID, record.Env = token.ID, token.Env
	record.Secrets = []keyring.Secret{{Pepper: s.peppers.Current().ID(), Sum: sum[:]}}

	details := map[string]string{
		"name":    record.Name,
		"owner":   record.Owner,
		"tenant":  record.Tenant,
		"roles":   clip(strings.Join(record.Roles, " "), 512),
		"expires": record.Expires.Format(time.RFC3339),
	}
	if len(record.Tools) > 0 {
		details["tools"] = clip(strings.Join(record.Tools, " "), 512)
	}
	if len(record.Networks) > 0 {
		details["networks"] = clip(strings.Trim(fmt.Sprint(record.Networks), "[]"), 512)
	}
	if record.ProofKey != "" {
		details["proof_thumbprint"] = record.ProofKey
	}
	if err := s.commit(ctx, "key.create", record.ID, details); err != nil {
		return nil, apikey.Token{}, err
	}
	key, err := s.store(ctx, record, 0)
	if err != nil {
		s.recordFailed(ctx, "key.create.failed", record.ID)
		return nil, apikey.Token{}, storeFault(err)
	}
	s.notify(ctx, key)
	return key, token, nil
}

// describe makes a record of a request, without secrets. The error is a fault.
//
// That no live key has the name is true of what this process knows: two
// processes could give one name to two keys in the same instant, which confuses
// people and nobody else.
func (s *Service) describe(req *authv1.CreateKeyRequest, now time.Time) (*keyring.Record, error) {
	if err := s.ring.Ready(); err != nil {
		return nil, notReady()
	}
	life := s.cfg.DefaultExpiry
	if req.GetExpiresIn() != nil {
		life = req.GetExpiresIn().AsDuration()
	}
	if life <= 0 || life > s.cfg.MaxExpiry {
		return nil, fault.New(codes.InvalidArgument, authv1.Reason_REASON_EXPIRY, "a key can live for at most %s", inDays(s.cfg.MaxExpiry))
	}
	set := s.scene.current().set
	if set == nil {
		return nil, notReady()
	}
	for _, role := range req.GetRoles() {
		if !set.KnowsRole(role) {
			return nil, fault.New(codes.InvalidArgument, authv1.Reason_REASON_ROLE,
				"no policy knows the role %q; those it could be are %s", role, clip(strings.Join(set.Roles(), ", "), 512))
		}
	}
	if s.ring.NameTaken(req.GetName(), now) {
		return nil, fault.New(codes.AlreadyExists, authv1.Reason_REASON_NAME_TAKEN, "a live key is called %q", req.GetName())
	}
	r := &keyring.Record{
		Name:    req.GetName(),
		Owner:   req.GetOwner(),
		Tenant:  req.GetTenant(),
		Roles:   slices.Sorted(slices.Values(req.GetRoles())),
		Created: now.Truncate(time.Millisecond),
		Expires: now.Truncate(time.Millisecond).Add(life),
		Tools:   req.GetRestrictions().GetTools(),

		ProofKey: req.GetProofThumbprint(),
	}
	if r.Tenant == "" {
		r.Tenant = defaultTenant
	}
	for i, text := range req.GetRestrictions().GetNetworks() {
		network, err := netip.ParsePrefix(text)
		if err != nil || network != network.Masked() {
			return nil, fault.New(codes.InvalidArgument, faultv1.Reason_REASON_INVALID,
				"restrictions.networks[%d] is not a network such as 192.0.2.0/24", i)
		}
		r.Networks = append(r.Networks, network)
	}
	return r, nil
}

// inDays writes a span of time as people say it, where it is one of days.
func inDays(d time.Duration) string {
	if d%day != 0 {
		return d.String()
	}
	return fmt.Sprintf("%d days", d/day)
}

// rotate gives a key a new secret. Like create it records first.
func (s *Service) rotate(ctx context.Context, id string, overlap time.Duration) (*keyring.Key, apikey.Token, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	token := apikey.MintSecret(s.cfg.Env, id)
	sum := s.peppers.Current().Sum(token)
	committed := false
	key, err := s.change(ctx, id, func(r *keyring.Record, now time.Time) (bool, error) {
		if !r.Revoked.IsZero() || !now.Before(r.Expires) {
			return false, fault.New(codes.FailedPrecondition, authv1.Reason_REASON_KEY_DEAD, "the key is revoked or expired; make a new one")
		}
		secrets := []keyring.Secret{{Pepper: s.peppers.Current().ID(), Sum: sum[:]}}
		if overlap > 0 {
			old := r.Secrets[0]
			old.Until = now.Add(overlap)
			secrets = append(secrets, old)
		}
		r.Secrets, r.Env = secrets, token.Env
		if committed { // a conflict: the event stands already
			return true, nil
		}
		committed = true
		return true, s.commit(ctx, "key.rotate", id, map[string]string{"name": r.Name, "overlap": overlap.String()})
	})
	if err != nil {
		if committed {
			s.recordFailed(ctx, "key.rotate.failed", id)
		}
		return nil, apikey.Token{}, err
	}
	s.notify(ctx, key)
	return key, token, nil
}

// revoke ends a key. Here alone the change does not wait for the record: a
// stolen key must not live on because the audit stream is down. Both are under
// way at once, and the caller is told if the record was not acknowledged.
func (s *Service) revoke(ctx context.Context, id string) (*keyring.Key, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	var recorded chan error // of one answer, once the record is under way
	key, err := s.change(ctx, id, func(r *keyring.Record, now time.Time) (bool, error) {
		if !r.Revoked.IsZero() {
			return false, nil
		}
		r.Revoked = now
		if recorded == nil {
			recorded = make(chan error, 1)
			details := map[string]string{"name": r.Name, "owner": r.Owner}
			go func() { recorded <- s.commit(context.WithoutCancel(ctx), "key.revoke", id, details) }()
		}
		return true, nil
	})
	if err == nil {
		s.notify(ctx, key) // also of one that was revoked before: the edges may have missed it
	}
	var unrecorded error
	if recorded != nil {
		unrecorded = <-recorded
	}
	switch {
	case err != nil:
		if recorded != nil {
			s.recordFailed(ctx, "key.revoke.failed", id)
		}
		return nil, err
	case unrecorded != nil:
		return nil, fault.New(codes.Unavailable, authv1.Reason_REASON_STORE,
			"the key is revoked, but the audit record was not acknowledged").Because(unrecorded)
	}
	return key, nil
}

// change reads a record from the store, edits it and writes it back, again if
// somebody else was faster. Edit returns false to leave the record as it is; its
// error is a fault, and so is that of change.
func (s *Service) change(ctx context.Context, id string, edit func(*keyring.Record, time.Time) (bool, error)) (*keyring.Key, error) {
	for range maxConflicts {
		entry, err := s.fetch(ctx, id)
		if errors.Is(err, bus.ErrNotFound) || err == nil && entry.Deleted {
			return nil, fault.New(codes.NotFound, authv1.Reason_REASON_KEY_UNKNOWN, "no key has the id %q", id)
		}
		if err != nil {
			return nil, storeFault(err)
		}
		record, err := keyring.Decode(entry.Value, s.peppers)
		if err != nil {
			return nil, storeFault(err)
		}
		edited, err := edit(record, time.Now().UTC().Truncate(time.Millisecond))
		if err != nil {
			return nil, err
		}
		if !edited {
			return s.ring.Put(record, entry.Revision), nil
		}
		key, err := s.store(ctx, record, entry.Revision)
		if errors.Is(err, bus.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, storeFault(err)
		}
		return key, nil
	}
	return nil, storeFault(fmt.Errorf("write key: %w %d times", bus.ErrConflict, maxConflicts))
}

func (s *Service) fetch(ctx context.Context, id string) (bus.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.deps.Store.Get(ctx, bus.Keys, id)
}

// store writes a record, new where revision is 0, and takes it into memory at
// once. A caller that goes away does not stop it: what is recorded shall happen.
func (s *Service) store(ctx context.Context, r *keyring.Record, revision uint64) (*keyring.Key, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	value, err := keyring.Encode(r, s.peppers.Current())
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		revision, err = s.deps.Store.Create(ctx, bus.Keys, r.ID, value)
	} else {
		revision, err = s.deps.Store.Update(ctx, bus.Keys, r.ID, value, revision)
	}
	if err != nil {
		return nil, err
	}
	return s.ring.Put(r, revision), nil
}

// commit records a change, and waits until it stands in the stream. The error is
// a fault.
func (s *Service) commit(ctx context.Context, operation, id string, details map[string]string) error {
	wait, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.deps.Audit.Commit(wait, change(ctx, operation, id, details)); err != nil {
		return fault.New(codes.Unavailable, authv1.Reason_REASON_STORE, "the audit record was not acknowledged; nothing was changed").Because(err)
	}
	return nil
}

// recordFailed says that a change which was recorded did not happen, or that it
// is not known whether it did.
func (s *Service) recordFailed(ctx context.Context, operation, id string) {
	if err := s.deps.Audit.Record(ctx, change(ctx, operation, id, nil)); err != nil {
		s.log.Error("that a change of a key failed could not be recorded", "operation", operation, "key", id, "err", err)
	}
}

// change is the event of a change to a key, made by the peer that calls.
func change(ctx context.Context, operation, id string, details map[string]string) *auditv1.Event {
	return &auditv1.Event{
		Actor:  &auditv1.Actor{Principal: "role:" + identity.Caller(ctx)},
		Action: operation,
		Target: id,
		What: &auditv1.Event_Admin{Admin: &auditv1.AdminChange{
			Operation: operation,
			Object:    id,
			Details:   details,
		}},
	}
}

// notify tells the edges. If it cannot, they find out when what they remember
// ends, some seconds later.
func (s *Service) notify(ctx context.Context, key *keyring.Key) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	notice := &authv1.Key{Id: key.Record.ID, State: key.State(time.Now())}
	if err := s.deps.Notify(ctx, notice); err != nil {
		s.log.Warn("the edges could not be told of a changed key", "key", key.Record.ID, "err", err)
	}
}

func storeFault(err error) error {
	return fault.New(codes.Unavailable, authv1.Reason_REASON_STORE, "the store of keys did not answer; list the keys to see what was done").Because(err)
}
