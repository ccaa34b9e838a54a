package edge

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// permit asks all who have a say in a call, and waits for the people whom a
// policy wants asked: the client's own user, if his client can ask him, and else
// an operator. It returns neither a permission nor a refusal where a modern client
// was asked; that comes back with the answer. Only the first round of a call is
// charged.
func (x *exchange) permit(name string, asked arguments, answer *approvalAnswer, first bool) (*authv1.AuthorizeResponse, *refusal) {
	resp, refused := x.decide(name, asked, answer, first)
	until := time.Now().Add(x.s.cfg.ApprovalWait)
	for range maxRounds {
		if refused != nil || resp.GetDecision().GetVerdict() == auditv1.Verdict_VERDICT_ALLOW {
			return resp, refused
		}
		pending := resp.GetApproval()
		answer = nil
		switch {
		case !pending.GetByUser() || !x.canAskUser():
			refused = x.awaitApproval(resp, until)
		case x.era == eraModern:
			if x.askForApproval(resp, asked) {
				return nil, nil
			}
			refused = x.awaitApproval(resp, until)
		default:
			answer, refused = x.askUser(resp, asked)
		}
		if refused == nil {
			resp, refused = x.consultOnCall(name, asked, answer)
		}
	}
	return nil, x.undecided(resp)
}

// consultOnCall asks auth about a call: the answer allows it, or tells of the
// approval that it needs.
func (x *exchange) consultOnCall(name string, asked arguments, answer *approvalAnswer) (*authv1.AuthorizeResponse, *refusal) {
	resp, refused := x.consult(authv1.Action_ACTION_TOOLS_CALL, name, asked, answer)
	if refused != nil {
		return nil, refused
	}
	switch resp.GetDecision().GetVerdict() {
	case auditv1.Verdict_VERDICT_ALLOW:
		return resp, nil
	case auditv1.Verdict_VERDICT_APPROVAL:
		if x.approval = resp.GetApproval().GetId(); x.approval != "" {
			return resp, nil
		}
	}
	return nil, x.denied(resp)
}

// awaitApproval holds the call until somebody has decided. It returns nil if auth
// has to be asked again, and a refusal if nobody decides in time, too many wait
// already, or nobody wants the call any more.
func (x *exchange) awaitApproval(resp *authv1.AuthorizeResponse, until time.Time) *refusal {
	leave, ok := x.s.waiting.Enter(x.principal.GetId(), x.s.cfg.MaxApprovalWaits, x.s.cfg.MaxApprovalWaitsPerKey)
	if !ok || !time.Now().Before(until) {
		return x.undecided(resp)
	}
	defer leave()
	x.allowStream()
	ctx, end := x.patience(until)
	defer end()
	got, err := x.s.auth.AwaitApproval(ctx, &authv1.AwaitApprovalRequest{Id: x.approval})
	switch {
	case x.cancelled():
		return x.refuseCancelled(true)
	case x.ctx.Err() != nil:
		return x.clientGone()
	case err == nil && got.GetState() != authv1.ApprovalState_APPROVAL_STATE_PENDING, fault.Is(err, authv1.Reason_REASON_APPROVAL_UNKNOWN):
		return nil
	case err == nil, ctx.Err() != nil, status.Code(err) == codes.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		return x.undecided(resp)
	}
	return x.peerFailed("auth", err)
}

// patience is how long a person is waited for: until some time, for as long as
// the client is there and wants it, and this process does not stop. Whoever has
// lost its connection can call again; the approval waits for that.
func (x *exchange) patience(until time.Time) (context.Context, func()) {
	ctx, cancel := context.WithDeadline(x.ctx, until)
	unhook := func() bool { return true }
	if x.work != nil {
		unhook = context.AfterFunc(x.work, cancel)
	}
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-x.s.stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		unhook()
		cancel()
		watch.Wait()
	}
}

// undecided refuses a call that nobody has approved so far, and says how it can
// go on.
func (x *exchange) undecided(resp *authv1.AuthorizeResponse) *refusal {
	d, pending := resp.GetDecision(), resp.GetApproval()
	who := "An operator can give it (sallyport approvals approve " + pending.GetId() + ")"
	if pending.GetByUser() {
		who += ", or the user of a client that can ask him"
	}
	minutes := int64(max(time.Minute, time.Until(pending.GetExpires().AsTime())+time.Minute-1) / time.Minute)
	return &refusal{
		kind: kindResult, reason: auditv1.Reason_REASON_APPROVAL_REQUIRED, verdict: auditv1.Verdict_VERDICT_APPROVAL,
		policy: d.GetPolicy(), decision: d.GetId(), approval: pending.GetId(), recorded: true, complete: true,
		message: strings.TrimRight(capital(d.GetMessage()), ". ") + ". The call waits for approval " + pending.GetId() + ", for " +
			strconv.FormatInt(minutes, 10) + " min more. " + who + ". Call again with exactly the same arguments after that, not before",
	}
}

// waiting counts the calls that wait for a person. The zero value is ready for
// use.
type waiting struct {
	mu    sync.Mutex
	total int
	of    map[string]int // by principal
}

// Enter counts one more until leave is called. It reports false if there are too
// many, in all or of the principal.
func (w *waiting) Enter(principal string, most, mostOf int) (leave func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.total >= most || w.of[principal] >= mostOf {
		return nil, false
	}
	if w.of == nil {
		w.of = make(map[string]int)
	}
	w.total++
	w.of[principal]++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.total--
		if w.of[principal]--; w.of[principal] <= 0 {
			delete(w.of, principal)
		}
	}, true
}
