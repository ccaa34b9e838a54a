package auth

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

const (
	// failureInterval is how often failures that are alike are recorded.
	failureInterval = 10 * time.Second
	// maxFailures bounds how many different ones are told apart. Those beyond
	// it are recorded together, without an address.
	maxFailures = 4096
)

// failures records credentials that are not good. Anybody can produce these
// without end, so those that are alike are counted, and recorded at once the
// first time and then at most every ten seconds. Beyond the limits on an address or
// a key their reasons are told apart no longer.
type failures struct {
	attempts *attempts
	audit    Recorder
	log      *slog.Logger

	mu  sync.Mutex
	all map[failure]*tally
}

// failure is what makes failures alike.
type failure struct {
	address      string // or the /64 it is in: one customer has all of it
	reason       auditv1.Reason
	credentialID string // only of keys that exist; others could be invented without end
}

// tally counts failures that are alike.
type tally struct {
	recorded time.Time
	more     int // since then
	sample   *auditv1.Event
}

func newFailures(a *attempts, audit Recorder, log *slog.Logger) *failures {
	return &failures{attempts: a, audit: audit, log: log, all: make(map[failure]*tally)}
}

// note takes a failure. The event is a decision; it names all that is known.
func (f *failures) note(ctx context.Context, now time.Time, e *auditv1.Event) {
	f.gather(now, e)
	k := failure{
		address:      block(e.GetActor().GetAddress()),
		reason:       e.GetDecision().GetReason(),
		credentialID: e.GetActor().GetCredentialId(),
	}
	f.mu.Lock()
	t := f.all[k]
	if t == nil && len(f.all) >= maxFailures {
		k = failure{reason: k.reason}
		e.Actor = &auditv1.Actor{}
		t = f.all[k]
	}
	if t != nil {
		t.more++
		f.mu.Unlock()
		return
	}
	f.all[k] = &tally{recorded: now, sample: e}
	f.mu.Unlock()
	f.record(ctx, e, 0)
}

// gather makes a failure one of too many, of its address or else with its key,
// where there were.
func (f *failures) gather(now time.Time, e *auditv1.Event) {
	actor := e.GetActor()
	var message string
	switch {
	case f.attempts.fromAddress(now, actor.GetAddress()):
		message = "There were too many failed attempts from this address."
		e.Actor = &auditv1.Actor{Address: actor.GetAddress()}
	case f.attempts.withKey(now, actor.GetCredentialId()):
		message = "There were too many failed attempts with this key, from anywhere."
		e.Actor = &auditv1.Actor{CredentialId: actor.GetCredentialId()}
	default:
		return
	}
	e.What = &auditv1.Event_Decision{Decision: &auditv1.Decision{
		Verdict: auditv1.Verdict_VERDICT_DENY,
		Reason:  auditv1.Reason_REASON_TOO_MANY_FAILURES,
		Message: message,
	}}
}

// run records what was counted, until ctx is done, and then what is left.
func (f *failures) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			f.sweep(ctx, now)
		case <-ctx.Done():
			f.sweep(context.WithoutCancel(ctx), time.Now().Add(failureInterval))
			return
		}
	}
}

// sweep records the counts that are due and forgets failures that have ended.
func (f *failures) sweep(ctx context.Context, now time.Time) {
	due := make(map[*auditv1.Event]int)
	f.mu.Lock()
	for k, t := range f.all {
		switch {
		case now.Sub(t.recorded) < failureInterval:
		case t.more == 0:
			delete(f.all, k)
		default:
			due[t.sample] = t.more
			t.recorded, t.more = now, 0
		}
	}
	f.mu.Unlock()
	for e, n := range due {
		f.record(ctx, e, n)
	}
}

// record writes an event like the sample. That it cannot be written changes
// nothing for the caller, who is refused anyway.
func (f *failures) record(ctx context.Context, sample *auditv1.Event, more int) {
	message := sample.GetDecision().GetMessage()
	if more > 0 {
		message = fmt.Sprintf("%s %d more like this in %v.", message, more, failureInterval)
	}
	actor := sample.GetActor()
	err := f.audit.Record(ctx, &auditv1.Event{
		Actor: &auditv1.Actor{
			Principal: actor.GetPrincipal(), CredentialId: actor.GetCredentialId(), Tenant: actor.GetTenant(),
			Address: actor.GetAddress(), Client: actor.GetClient(), ContextId: actor.GetContextId(),
		},
		Action: sample.GetAction(),
		Target: sample.GetTarget(),
		What: &auditv1.Event_Decision{Decision: &auditv1.Decision{
			Verdict: auditv1.Verdict_VERDICT_DENY,
			Reason:  sample.GetDecision().GetReason(),
			Message: message,
		}},
	})
	if err != nil {
		f.log.Warn("a failed authentication could not be recorded", "err", err)
	}
}

// block returns what an attacker cannot change at will of his address.
func block(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Unmap().Is4() {
		return address
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return p.String()
}
