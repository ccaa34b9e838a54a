package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/pkg/identity"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/approval"
)

const (
	// defaultWait is how long AwaitApproval waits for a caller without a deadline.
	defaultWait = time.Minute
	// answerRoom is how much of a deadline is left for the answer.
	answerRoom = 200 * time.Millisecond
	// newsTime is how long another process's approval may take to be known here.
	newsTime = time.Second
	// approvalPage is the size of a page of approvals where none is asked for, and
	// maxPageBytes bounds any: there are arguments in them.
	approvalPage = 100
	maxPageBytes = 2 << 20
)

// onApproval takes what the store tells.
func (s *Service) onApproval(e bus.Entry) {
	if err := s.approvals.Apply(e.Key, e.Value, e.Revision, e.Deleted); err != nil {
		s.log.Warn("an approval in the store is not good, it counts as none", "entry", e.Key, "err", err)
	}
}

// AwaitApproval implements [authv1.AuthServiceServer].
func (s *Service) AwaitApproval(ctx context.Context, req *authv1.AwaitApprovalRequest) (*authv1.AwaitApprovalResponse, error) {
	until, limited := ctx.Deadline()
	if !limited {
		until = time.Now().Add(defaultWait)
	}
	left := time.Until(until)
	wait, cancel := context.WithTimeout(ctx, left-min(left/10, answerRoom))
	defer cancel()
	a, err := s.findApproval(wait, req.GetId(), func(a *authv1.CallApproval) bool { return state(a) != pendingState })
	if err != nil {
		return nil, err
	}
	return &authv1.AwaitApprovalResponse{State: state(a)}, nil
}

// findApproval returns the approval with an id when it is settled, or as it is
// when ctx is done. One that is not known yet may be another process's; one that
// has vanished has ended. The error is a fault.
func (s *Service) findApproval(ctx context.Context, id string, settled func(*authv1.CallApproval) bool) (*authv1.CallApproval, error) {
	news, stop := s.approvals.Follow(id)
	defer stop()
	late := time.After(newsTime)
	for known := false; ; {
		var a *authv1.CallApproval
		turns := late
		if entry := s.approvals.Find(id); entry != nil {
			if a = entry.Record.GetApproval(); settled(a) {
				return a, nil
			}
			known, turns = true, time.After(time.Until(a.GetExpireTime().AsTime()))
		} else if known {
			return nil, approvalUnknown(id)
		}
		select {
		case <-news:
			continue
		case <-turns:
		case <-ctx.Done():
			if a != nil {
				return a, nil
			}
		}
		switch {
		case a != nil: // it expires
		case s.approvals.Ready() != nil:
			return nil, approvalsUnknown(errApprovals)
		default:
			return nil, approvalUnknown(id)
		}
	}
}

// state is where an approval is in its life just now.
func state(a *authv1.CallApproval) authv1.ApprovalState { return approval.State(a, time.Now()) }

// ListApprovals implements [authv1.ApprovalServiceServer]. The token of a page is
// the id of the last approval on the page before.
func (s *Service) ListApprovals(_ context.Context, req *authv1.ListApprovalsRequest) (*authv1.ListApprovalsResponse, error) {
	if err := s.approvals.Ready(); err != nil {
		return nil, approvalsAway(err)
	}
	now := time.Now()
	size := int(req.GetPageSize())
	if size == 0 {
		size = approvalPage
	}
	resp := new(authv1.ListApprovalsResponse)
	bytes := 0
	for _, e := range s.approvals.All() {
		a := e.Record.GetApproval()
		if e.ID() <= req.GetPageToken() || !listed(a, req.GetPending(), now) {
			continue
		}
		if bytes += proto.Size(a); len(resp.GetApprovals()) == size || bytes > maxPageBytes && len(resp.GetApprovals()) > 0 {
			resp.NextPageToken = resp.GetApprovals()[len(resp.GetApprovals())-1].GetId()
			break
		}
		resp.Approvals = append(resp.Approvals, described(a, now))
	}
	return resp, nil
}

// listed reports whether an approval belongs on a list: of those that are
// pending, or of those that did not end long ago.
func listed(a *authv1.CallApproval, pending bool, now time.Time) bool {
	if pending {
		return approval.State(a, now) == pendingState
	}
	ended := approval.Ended(a, now)
	return ended.IsZero() || now.Sub(ended) < day
}

// described is an approval as it is just now.
func described(a *authv1.CallApproval, now time.Time) *authv1.CallApproval {
	a = proto.CloneOf(a)
	a.State = approval.State(a, now)
	return a
}

// DecideApproval implements [authv1.ApprovalServiceServer]. The audit event comes
// first: nothing is approved that nobody heard of.
func (s *Service) DecideApproval(ctx context.Context, req *authv1.DecideApprovalRequest) (*authv1.DecideApprovalResponse, error) {
	if req.GetDecidedBy() == byUser {
		return nil, fault.New(codes.InvalidArgument, faultv1.Reason_REASON_INVALID, "decided_by: %q stands for the caller's own user", byUser)
	}
	who := &auditv1.Actor{Principal: "role:" + identity.Caller(ctx)}
	var recorded *authv1.ApprovalRecord
	for range maxConflicts {
		entry, err := s.pendingApproval(ctx, req.GetId())
		if err == nil && recorded == nil {
			if err := s.commitApproval(ctx, approvalEvent(who, entry.Record, operation(req.GetApprove()), req.GetDecidedBy(), req.GetNote())); err != nil {
				return nil, approvalsAway(err)
			}
			recorded = entry.Record
		}
		if err == nil {
			entry, err = s.writeApproval(ctx, entry, func(a *authv1.CallApproval) {
				s.decided(a, decision(req.GetApprove()), req.GetDecidedBy(), req.GetNote(), time.Now())
			})
		}
		switch {
		case err == nil:
			return &authv1.DecideApprovalResponse{Approval: described(entry.Record.GetApproval(), time.Now())}, nil
		case errors.Is(err, bus.ErrConflict): // it may be pending still
			continue
		case recorded != nil:
			s.approvalFailed(ctx, who, recorded, req.GetDecidedBy())
		}
		if errors.Is(err, errApprovals) {
			err = approvalsAway(err)
		}
		return nil, err
	}
	s.approvalFailed(ctx, who, recorded, req.GetDecidedBy())
	return nil, approvalsAway(fmt.Errorf("%w %d times", bus.ErrConflict, maxConflicts))
}

func decision(approve bool) authv1.ApprovalState {
	if approve {
		return approvedState
	}
	return deniedState
}

// pendingApproval returns a pending approval as the store has it. Its error wraps
// errApprovals, or is a fault.
func (s *Service) pendingApproval(ctx context.Context, id string) (*approval.Entry, error) {
	if _, err := s.findApproval(ctx, id, func(*authv1.CallApproval) bool { return true }); err != nil {
		if fault.Is(err, faultv1.Reason_REASON_NOT_READY) {
			err = fmt.Errorf("%w: %w", errApprovals, err)
		}
		return nil, err
	}
	known := s.approvals.Find(id)
	if known == nil {
		return nil, approvalUnknown(id)
	}
	entry, _, err := s.approvalNow(ctx, known.Key)
	if err != nil {
		return nil, err
	}
	if entry == nil || entry.ID() != id {
		return nil, approvalUnknown(id)
	}
	if is := state(entry.Record.GetApproval()); is != pendingState {
		return nil, fault.New(codes.FailedPrecondition, authv1.Reason_REASON_APPROVAL_DECIDED, "the approval %q is not pending any more: it is %s", id, stateName(is))
	}
	return entry, nil
}

// stateName is a state in a word.
func stateName(is authv1.ApprovalState) string {
	switch is {
	case approvedState:
		return "approved"
	case deniedState:
		return "denied"
	case usedState:
		return "used"
	}
	return "expired"
}

func approvalUnknown(id string) error {
	return fault.New(codes.NotFound, authv1.Reason_REASON_APPROVAL_UNKNOWN, "no approval has the id %q, or it ended long ago", id)
}

func approvalsAway(err error) error {
	return fault.New(codes.Unavailable, authv1.Reason_REASON_STORE, "the store or the audit stream did not answer; list the approvals to see what was done").Because(err)
}
