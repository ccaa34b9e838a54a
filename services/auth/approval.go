package auth

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/approval"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

const (
	// maxShown is how large the arguments of a call can be that has to be approved:
	// whoever approves must see them whole.
	maxShown = 16 << 10
	// keptOf is how many approvals of one principal that have ended are kept; older
	// ones make room. The audit record has them all.
	keptOf = 200
	// byUser is who decided when the caller's own user did. No operator can call
	// himself that.
	byUser = "user"
)

// The states by short names.
const (
	pendingState  = authv1.ApprovalState_APPROVAL_STATE_PENDING
	approvedState = authv1.ApprovalState_APPROVAL_STATE_APPROVED
	deniedState   = authv1.ApprovalState_APPROVAL_STATE_DENIED
	usedState     = authv1.ApprovalState_APPROVAL_STATE_USED
)

// errApprovals says that the store did not do as it should.
var errApprovals = errors.New("approvals cannot be read or written")

// petition is a call that policies forbid until somebody has approved it.
type petition struct {
	caller   *caller
	req      *authv1.AuthorizeRequest
	ruling   *ruling // which becomes the answer
	decision string  // id of the decision that is being made
	key      string  // of the entry in the store
	now      time.Time
}

// lift looks for an approval of exactly this call, and makes the ruling what it
// comes to: allowed by one that is used up with it, denied, or pending. It fails
// closed: the ruling is a denial until then.
func (s *Service) lift(ctx context.Context, c *caller, req *authv1.AuthorizeRequest, r *ruling, decision string, now time.Time) error {
	if len(req.GetArguments()) > maxShown {
		r.message = fmt.Sprintf("Somebody would have to approve this call and to see its arguments for that, which are larger than %d KiB. Call with less.", maxShown>>10)
		return nil
	}
	p := &petition{caller: c, req: req, ruling: r, decision: decision, now: now}
	p.key = approval.Call{
		Principal: c.principal.GetId(), Tool: req.GetTarget(), ToolDigest: r.tool.digest, ArgumentsSHA256: req.GetArgumentsSha256(),
	}.Key()
	for range maxConflicts {
		entry, revision, err := s.approvalNow(ctx, p.key)
		if err == nil {
			err = s.hear(ctx, p, entry, revision)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, bus.ErrConflict): // somebody else was faster; look what he did
		case errors.Is(err, errApprovals):
			return approvalsUnknown(err)
		default:
			return err
		}
	}
	return approvalsUnknown(fmt.Errorf("%w: changed %d times by others", errApprovals, maxConflicts))
}

func approvalsUnknown(err error) error {
	return fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY, "approvals are not known just now").After(time.Second).Because(err)
}

// hear decides by what the store has of the call. Its error is ErrConflict if
// that has changed, wraps errApprovals, or is a fault.
func (s *Service) hear(ctx context.Context, p *petition, entry *approval.Entry, revision uint64) error {
	state := authv1.ApprovalState_APPROVAL_STATE_UNSPECIFIED
	if entry != nil {
		state = approval.State(entry.Record.GetApproval(), p.now)
	}
	// The word of the caller's user counts where the policies of now say so.
	spoken := entry != nil && p.ruling.lift == policy.ApprovalUser && string(p.req.GetApproval()) == entry.ID()
	switch {
	case spoken && p.req.GetApprovalRefused() && (state == pendingState || state == approvedState):
		return s.byUser(ctx, p, entry, deniedState)
	case state == approvedState:
		return s.use(ctx, p, entry)
	case spoken && state == pendingState:
		return s.byUser(ctx, p, entry, usedState)
	case state == pendingState:
		p.await(entry)
		return nil
	case state == deniedState && p.now.Before(entry.Record.GetApproval().GetExpireTime().AsTime()):
		p.deny(entry)
		return nil
	}
	return s.petition(ctx, p, revision)
}

// use uses an approval up, which only one of many can.
func (s *Service) use(ctx context.Context, p *petition, entry *approval.Entry) error {
	used, err := s.writeApproval(ctx, entry, func(a *authv1.CallApproval) { a.State = usedState })
	if err != nil {
		return err
	}
	p.allow(used)
	return nil
}

// byUser takes the answer of the caller's own user. What he approves is used up
// in the same step, so that it never lies about for somebody else.
func (s *Service) byUser(ctx context.Context, p *petition, entry *approval.Entry, state authv1.ApprovalState) error {
	if err := s.commitApproval(ctx, approvalEvent(p.actor(), entry.Record, operation(state != deniedState), byUser, "")); err != nil {
		return fault.New(codes.Unavailable, auditv1.ErrorReason_ERROR_REASON_STREAM_UNAVAILABLE, "the decision could not be recorded").Because(err)
	}
	decided, err := s.writeApproval(ctx, entry, func(a *authv1.CallApproval) { s.decided(a, state, byUser, "", p.now) })
	if err != nil {
		s.approvalFailed(ctx, p.actor(), entry.Record, byUser)
		return err
	}
	if state == deniedState {
		p.deny(decided)
	} else {
		p.allow(decided)
	}
	return nil
}

// decided notes who has decided.
func (s *Service) decided(a *authv1.CallApproval, state authv1.ApprovalState, by, note string, now time.Time) {
	a.State, a.DecidedBy, a.Note = state, by, note
	a.DecideTime, a.ExpireTime = timestamppb.New(now), timestamppb.New(now.Add(s.cfg.Approvals.UsableFor))
}

// petition asks for an approval of a call that has none.
func (s *Service) petition(ctx context.Context, p *petition, revision uint64) error {
	s.petitions.Lock() // so that this process counts right
	defer s.petitions.Unlock()
	if err := s.approvals.Ready(); err != nil {
		return fmt.Errorf("%w: %w", errApprovals, err)
	}
	waiting, ended := s.approvals.Of(p.caller.principal.GetId(), p.now)
	if waiting >= s.cfg.Approvals.MaxPending {
		p.ruling.reason = auditv1.Reason_REASON_CONCURRENCY_EXCEEDED
		p.ruling.message = fmt.Sprintf("Somebody has to approve this call, and %d calls of this caller wait for that already. Wait until those are decided.", waiting)
		return nil
	}
	entry, err := s.putApproval(ctx, &approval.Entry{Key: p.key, Revision: revision, Record: p.record(s.cfg.Approvals.PendingFor)})
	if err != nil {
		return err
	}
	p.await(entry)
	for ; len(ended) >= keptOf; ended = ended[1:] {
		s.forgetApproval(ctx, ended[0].Key)
	}
	return nil
}

// record is a new approval of the call.
func (p *petition) record(life time.Duration) *authv1.ApprovalRecord {
	r, req := p.ruling, p.req
	return &authv1.ApprovalRecord{
		ToolDigest: r.tool.digest, ArgumentsSha256: req.GetArgumentsSha256(),
		Approval: &authv1.CallApproval{
			Id: "a_" + audit.NewID(), State: pendingState, Principal: p.caller.principal, Tool: req.GetTarget(), Arguments: req.GetArguments(),
			Policy: r.rule, PolicySource: r.source, Reason: r.message, ByUser: r.lift == policy.ApprovalUser,
			CreateTime: timestamppb.New(p.now), ExpireTime: timestamppb.New(p.now.Add(life)),
			DecisionId: p.decision, Origin: req.GetOrigin(),
		},
	}
}

// await makes the ruling that somebody has to approve first.
func (p *petition) await(entry *approval.Entry) {
	a := entry.Record.GetApproval()
	p.ruling.approval = a.GetId()
	p.ruling.pending = &authv1.PendingApproval{
		Id: a.GetId(), ByUser: p.ruling.lift == policy.ApprovalUser, Expires: a.GetExpireTime(),
		Question: clip(fmt.Sprintf("Do you approve this call of %s? %s", shown(p.req.GetTarget()), p.ruling.message), maxMessage),
	}
}

// deny makes the ruling that somebody has said no.
func (p *petition) deny(entry *approval.Entry) {
	a := entry.Record.GetApproval()
	p.ruling.approval = a.GetId()
	p.ruling.message = "An operator has denied exactly this call."
	if a.GetDecidedBy() == byUser {
		p.ruling.message = "The user has denied exactly this call."
	}
	if a.GetNote() != "" {
		p.ruling.message += " The reason given: " + a.GetNote()
	}
}

// allow makes the ruling that the call was approved.
func (p *petition) allow(entry *approval.Entry) {
	a := entry.Record.GetApproval()
	p.ruling.reason = auditv1.Reason_REASON_UNSPECIFIED
	p.ruling.approval = a.GetId()
	p.ruling.message = "Approved by " + a.GetDecidedBy() + "."
}

// actor is who calls, for the record.
func (p *petition) actor() *auditv1.Actor {
	who, o := p.caller.principal, p.req.GetOrigin()
	return &auditv1.Actor{
		Principal: who.GetId(), CredentialId: who.GetCredentialId(), Tenant: who.GetTenant(), Roles: who.GetRoles(),
		Address: o.GetAddress(), Client: o.GetClient(), ContextId: o.GetContextId(),
	}
}

// operation is what the record calls a decision about an approval.
func operation(approve bool) string {
	if approve {
		return "approval.approve"
	}
	return "approval.deny"
}

// approvalEvent says that somebody decides about an approval. It belongs to the
// decision by which that came to be.
func approvalEvent(who *auditv1.Actor, r *authv1.ApprovalRecord, operation, by, note string) *auditv1.Event {
	a := r.GetApproval()
	details := map[string]string{
		"by": by, "tool": a.GetTool(), "principal": a.GetPrincipal().GetId(), "policy": a.GetPolicy(),
		"arguments_sha256": hex.EncodeToString(r.GetArgumentsSha256()),
	}
	if note != "" {
		details["note"] = clip(note, 512)
	}
	return &auditv1.Event{
		DecisionId: a.GetDecisionId(), Actor: who, Action: operation, Target: a.GetTool(),
		What: &auditv1.Event_Admin{Admin: &auditv1.AdminChange{Operation: operation, Object: a.GetId(), Details: details}},
	}
}

// approvalFailed says that what was recorded did not happen, or that it is not
// known whether it did.
func (s *Service) approvalFailed(ctx context.Context, who *auditv1.Actor, r *authv1.ApprovalRecord, by string) {
	if err := s.deps.Audit.Record(ctx, approvalEvent(who, r, "approval.failed", by, "")); err != nil {
		s.log.Error("that an approval failed could not be recorded", "approval", r.GetApproval().GetId(), "err", err)
	}
}

// commitApproval waits until an event stands in the stream.
func (s *Service) commitApproval(ctx context.Context, e *auditv1.Event) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.deps.Audit.Commit(ctx, e)
}

// approvalNow returns what the store has for a call, and with which revision: nil
// where there is nothing, or nothing that can be read, which is as good.
func (s *Service) approvalNow(ctx context.Context, key string) (*approval.Entry, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	found, err := s.deps.Store.Get(ctx, bus.CallApprovals, key)
	if errors.Is(err, bus.ErrNotFound) || err == nil && found.Deleted {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errApprovals, err)
	}
	record, err := s.approvalBox.Open(key, found.Value)
	if err != nil {
		s.log.Warn("an approval in the store is not good, it counts as none", "entry", key, "err", err)
		return nil, found.Revision, nil
	}
	return &approval.Entry{Key: key, Revision: found.Revision, Record: record}, found.Revision, nil
}

// writeApproval changes an approval, unless somebody else did.
func (s *Service) writeApproval(ctx context.Context, entry *approval.Entry, edit func(*authv1.CallApproval)) (*approval.Entry, error) {
	changed := proto.CloneOf(entry.Record)
	edit(changed.GetApproval())
	return s.putApproval(ctx, &approval.Entry{Key: entry.Key, Revision: entry.Revision, Record: changed})
}

// putApproval writes an entry over the revision that it names, none where that is
// 0. A caller who goes away does not stop it.
func (s *Service) putApproval(ctx context.Context, entry *approval.Entry) (*approval.Entry, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	value, err := s.approvalBox.Seal(entry.Key, entry.Record)
	if err != nil {
		return nil, err
	}
	if entry.Revision == 0 {
		entry.Revision, err = s.deps.Store.Create(ctx, bus.CallApprovals, entry.Key, value)
	} else {
		entry.Revision, err = s.deps.Store.Update(ctx, bus.CallApprovals, entry.Key, value, entry.Revision)
	}
	switch {
	case errors.Is(err, bus.ErrExists), errors.Is(err, bus.ErrConflict):
		return nil, bus.ErrConflict
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errApprovals, err)
	}
	s.approvals.Put(entry)
	return entry, nil
}

// forgetApproval makes room. If it cannot, the next one will.
func (s *Service) forgetApproval(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := s.deps.Store.Delete(ctx, bus.CallApprovals, key); err != nil {
		s.log.Warn("an approval that has ended could not be removed", "err", err)
		return
	}
	s.approvals.Drop(key)
}
