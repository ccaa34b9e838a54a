package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/bundle"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// maxBundle is how large a set can be in the store: NATS takes a megabyte in one
// message where nobody has set another limit.
const maxBundle = 768 << 10

// putPolicies stores a set and takes it up. The audit event comes first: policies
// that nobody heard of must not hold, while an event about some that could not be
// stored does no harm, and is followed by another that says so. The error is a
// fault.
func (s *Service) putPolicies(ctx context.Context, files []policy.File, base, author string) (version string, err error) {
	set, err := policy.Load(files)
	if err != nil {
		return "", policyFault(err)
	}
	size := 0
	for _, f := range files {
		size += len(f.Name) + len(f.Text)
	}
	if size > maxBundle {
		return "", fault.New(codes.InvalidArgument, authv1.Reason_REASON_POLICY, "the files are larger than %d KiB together", maxBundle>>10)
	}
	details := map[string]string{"version": set.Version(), "files": fileNames(set), "author": author}
	return s.replacePolicies(ctx, "policy.put", &authv1.PolicyBundle{Files: protoFiles(files), Author: author}, base, details)
}

// removePolicies makes the files hold again. What is stored is that there is
// nothing: see package bundle. The error is a fault.
func (s *Service) removePolicies(ctx context.Context, base, author string) (version string, err error) {
	details := map[string]string{"author": author}
	return s.replacePolicies(ctx, "policy.remove", &authv1.PolicyBundle{Author: author}, base, details)
}

// replacePolicies writes a bundle in the place of what the store holds, if that is
// what the author has seen.
func (s *Service) replacePolicies(ctx context.Context, operation string, b *authv1.PolicyBundle, base string, details map[string]string) (version string, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	read, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	entry, err := s.deps.Store.Get(read, bus.Policies, policyKey)
	exists := err == nil && !entry.Deleted
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return "", policyStoreFault(err)
	}
	if exists {
		s.policies.apply(entry.Value, false) // the watch may be late
	}
	before, files, held := s.policies.holding()
	if base != "" && base != before {
		return "", changedFault(before)
	}
	if len(b.GetFiles()) == 0 {
		if !exists && !held {
			return before, nil // the files hold already
		}
		details["version"] = files
	}
	details["before"] = before
	maps.DeleteFunc(details, func(_, value string) bool { return value == "" })

	// Later than what it replaces, whatever the clocks say: an older one is not
	// believed.
	b.Time = timestamppb.New(s.policies.later(time.Now()))
	value, err := bundle.Encode(b, s.peppers.Current())
	if err != nil {
		return "", policyStoreFault(err)
	}
	if err := s.commit(ctx, operation, policyKey, details); err != nil {
		return "", err
	}
	// A caller that goes away does not stop it: what is recorded shall happen.
	write, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if exists {
		_, err = s.deps.Store.Update(write, bus.Policies, policyKey, value, entry.Revision)
	} else {
		_, err = s.deps.Store.Create(write, bus.Policies, policyKey, value)
	}
	if err != nil {
		s.recordFailed(ctx, operation+".failed", policyKey)
		if errors.Is(err, bus.ErrConflict) || errors.Is(err, bus.ErrExists) {
			return "", changedFault("")
		}
		return "", policyStoreFault(err)
	}
	s.policies.apply(value, false)
	current, _, _ := s.policies.holding()
	return current, nil
}

// holding returns the version of the set in use, the version of the one in files,
// and whether the store held something when it was last heard of.
func (p *policies) holding() (now, files string, held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if set := p.scene.current().set; set != nil {
		now = set.Version()
	}
	return now, p.files.Version(), p.stored.set != nil || p.stored.broken
}

// later returns a time that is after that of what the store holds.
func (p *policies) later(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !now.After(p.stored.time) {
		return p.stored.time.Add(time.Millisecond)
	}
	return now
}

// onPolicies takes an entry of the bucket.
func (s *Service) onPolicies(e bus.Entry) {
	if e.Key == policyKey {
		s.policies.apply(e.Value, e.Deleted)
	}
}

// tookUp is called when other policies have come into use: it has that recorded
// and the edges told, by the loop that runs for it.
func (s *Service) tookUp(c takeover) {
	if !c.first {
		s.log.Info("other policies are in use", "version", c.set.Version(), "source", c.source.String(), "files", fileNames(c.set))
		details := map[string]string{
			"version": c.set.Version(),
			"source":  strings.ToLower(strings.TrimPrefix(c.source.String(), "POLICY_SOURCE_")),
			"files":   fileNames(c.set),
		}
		if c.source == authv1.PolicySource_POLICY_SOURCE_STORE && c.author != "" {
			details["author"] = c.author
		}
		// They hold already: stricter ones must not wait for the audit stream, and
		// without it no call is allowed anyway.
		if err := s.deps.Audit.Record(context.Background(), &auditv1.Event{
			Actor:  &auditv1.Actor{Principal: "role:auth"},
			Action: "policy.reload",
			Target: policyKey,
			What:   &auditv1.Event_Admin{Admin: &auditv1.AdminChange{Operation: "policy.reload", Object: policyKey, Details: details}},
		}); err != nil {
			s.log.Error("that other policies are in use could not be recorded", "err", err)
		}
	}
	s.announce()
}

// fileNames lists the files of a set, for the record.
func fileNames(set *policy.Set) string {
	var names []string
	for _, f := range set.Files() {
		names = append(names, f.Name)
	}
	return clip(strings.Join(slices.Compact(names), " "), 512)
}

func changedFault(now string) error {
	text := "others are in use than those of base_version; look at them and try again"
	if now != "" {
		text = fmt.Sprintf("policies %s are in use, and not those of base_version; look at them and try again", now)
	}
	return fault.New(codes.Aborted, authv1.Reason_REASON_POLICY_CHANGED, "%s", text)
}

func policyStoreFault(err error) error {
	return fault.New(codes.Unavailable, authv1.Reason_REASON_STORE, "the store of policies did not answer; look which are in use").Because(err)
}
