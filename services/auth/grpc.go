package auth

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// authenticate is what a failure of Authenticate is called on record.
const authenticate = "authenticate"

// Authenticate implements [authv1.AuthServiceServer].
func (s *Service) Authenticate(ctx context.Context, req *authv1.AuthenticateRequest) (*authv1.AuthenticateResponse, error) {
	now := time.Now()
	c, refused, err := s.identify(ctx, req.GetCredential(), req.GetOrigin(), authenticate, now)
	if err != nil || c == nil {
		return &authv1.AuthenticateResponse{RetryAfter: s.countFailure(req, refused, err, now), Challenge: refused.challenge}, err
	}
	resp := &authv1.AuthenticateResponse{Principal: c.principal, ProofReceipt: c.receipt}
	if !c.validUntil.IsZero() {
		// The time that it took to find out counts.
		resp.ValidFor = durationpb.New(max(0, min(s.cfg.ValidFor, time.Until(c.validUntil))))
	}
	return resp, nil
}

// Authorize implements [authv1.AuthServiceServer].
func (s *Service) Authorize(ctx context.Context, req *authv1.AuthorizeRequest) (*authv1.AuthorizeResponse, error) {
	now := time.Now()
	method := actions[req.GetAction()].method
	c, refused, err := s.identify(ctx, req.GetCredential(), req.GetOrigin(), method, now)
	if err != nil || c == nil {
		return &authv1.AuthorizeResponse{RetryAfter: s.countFailure(req, refused, err, now)}, err
	}
	r, err := s.decide(ctx, c, req, now)
	if err != nil {
		return nil, err
	}
	resp := &authv1.AuthorizeResponse{Principal: c.principal}
	if r.tool != nil {
		resp.Cost, resp.Uses = r.tool.cost, r.tool.uses
	}
	if r.needs != 0 {
		resp.ArgumentsNeeded = r.needs&policy.NeedArguments != 0
		resp.StepsNeeded = r.needs&policy.NeedSteps != 0
		return resp, nil
	}
	id := audit.NewDecisionID()
	if r.lift != policy.ApprovalNone {
		if err := s.lift(ctx, c, req, &r, id, now); err != nil {
			return nil, err
		}
		resp.Approval = r.pending
	}
	resp.ScopesNeeded = r.scopes
	resp.Decision = &authv1.Decision{
		Id:      id,
		Verdict: r.verdict(),
		Reason:  r.reason,
		Policy:  r.rule,
		Message: r.message,
	}
	if r.verdict() == auditv1.Verdict_VERDICT_ALLOW {
		expires := now.Add(s.cfg.GrantLife)
		if resp.Grant, err = s.seal(c, req, resp.GetDecision().GetId(), expires, r.tool); err != nil {
			return nil, err
		}
		resp.GrantExpires = timestamppb.New(expires)
	}
	// Last, for from here on it counts: what is recorded is also answered, and
	// what cannot be recorded does not happen (fails closed).
	if err := s.record(ctx, c, req, resp.GetDecision(), &r); err != nil {
		return nil, fault.New(codes.Unavailable, auditv1.ErrorReason_ERROR_REASON_STREAM_UNAVAILABLE,
			"the decision could not be recorded").Because(err)
	}
	c.touch(now, touched(req), req.GetOrigin().GetAddress())
	return resp, nil
}

// FilterTools implements [authv1.AuthServiceServer].
func (s *Service) FilterTools(ctx context.Context, req *authv1.FilterToolsRequest) (*authv1.FilterToolsResponse, error) {
	now := time.Now()
	c, refused, err := s.identify(ctx, req.GetCredential(), req.GetOrigin(), actions[authv1.Action_ACTION_TOOLS_LIST].method, now)
	if err != nil || c == nil {
		return &authv1.FilterToolsResponse{RetryAfter: s.countFailure(req, refused, err, now)}, err
	}
	c.touch(now, "", req.GetOrigin().GetAddress())
	b := s.scene.current()
	if b.set == nil || b.tools == nil {
		return nil, notReady()
	}
	return s.filterTools(b, c, req, now)
}

// FilterTargets implements [authv1.AuthServiceServer].
func (s *Service) FilterTargets(ctx context.Context, req *authv1.FilterTargetsRequest) (*authv1.FilterTargetsResponse, error) {
	now := time.Now()
	list := authv1.Action_ACTION_RESOURCES_LIST
	if req.GetAction() == authv1.Action_ACTION_PROMPTS_GET {
		list = authv1.Action_ACTION_PROMPTS_LIST
	}
	c, refused, err := s.identify(ctx, req.GetCredential(), req.GetOrigin(), actions[list].method, now)
	if err != nil || c == nil {
		return &authv1.FilterTargetsResponse{RetryAfter: s.countFailure(req, refused, err, now)}, err
	}
	c.touch(now, "", req.GetOrigin().GetAddress())
	allowed, err := s.filter(ctx, c, req, now)
	if err != nil {
		return nil, err
	}
	return &authv1.FilterTargetsResponse{Principal: c.principal, Allowed: allowed}, nil
}

// refused is what is told of a credential that is not good, and what is made of it.
type refused struct {
	challenge authv1.ChallengeError
	// genuine says that nobody guesses here: the token was good, and is over. Who has
	// one is to be told so and gets another, however many there are at his address.
	genuine bool
}

// identify returns whose the credential is, or nil if it is not good, which it
// records. The error is a fault, if it cannot be told.
func (s *Service) identify(ctx context.Context, shown *authv1.Credential, origin *authv1.Origin, method string, now time.Time) (*caller, refused, error) {
	switch {
	case shown.GetScheme() == authv1.Scheme_SCHEME_CERTIFICATE:
		c, reason := s.machines.find(shown.GetSpiffeId(), now.Add(s.cfg.ValidFor))
		if c == nil {
			s.notGood(ctx, origin, method, reason, "", now)
		}
		return c, refused{}, nil
	case shown.GetScheme() != authv1.Scheme_SCHEME_API_KEY && s.tokens != nil && !apikey.Looks(shown.GetToken()):
		flooded := func() bool { return s.attempts.fromAddress(time.Now(), origin.GetAddress()) }
		good, reason, err := s.tokens.identify(ctx, shown, now, flooded)
		if err != nil {
			return nil, refused{}, fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY, "tokens cannot be judged just now").After(time.Second).Because(err)
		}
		if good == nil {
			s.notGood(ctx, origin, method, reason, "", now)
			return nil, refused{genuine: reason == auditv1.Reason_REASON_CREDENTIAL_EXPIRED}, nil
		}
		return s.proved(ctx, shown, good.caller, origin, method, now)
	}
	key, reason, id, err := s.ring.Verify(shown.GetToken(), origin.GetAddress(), now)
	if err != nil {
		return nil, refused{}, fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY, "keys are not known just now").After(time.Second).Because(err)
	}
	if key == nil {
		s.notGood(ctx, origin, method, reason, id, now)
		return nil, refused{}, nil
	}
	return s.proved(ctx, shown, ofKey(key, now), origin, method, now)
}

// notGood records a credential that is not good, with the public id of what it
// could be.
func (s *Service) notGood(ctx context.Context, origin *authv1.Origin, method string, reason auditv1.Reason, id string, now time.Time) {
	s.failures.note(ctx, now, &auditv1.Event{
		Actor: &auditv1.Actor{
			CredentialId: id,
			Address:      origin.GetAddress(),
			Client:       origin.GetClient(),
			ContextId:    origin.GetContextId(),
		},
		Action: method,
		What: &auditv1.Event_Decision{Decision: &auditv1.Decision{
			Verdict: auditv1.Verdict_VERDICT_DENY,
			Reason:  reason,
			Message: "The credential is not good.",
		}},
	})
}

func (s *Service) seal(c *caller, req *authv1.AuthorizeRequest, id string, expires time.Time, t *tool) ([]byte, error) {
	g := &authv1.Grant{
		DecisionId:      id,
		Principal:       c.principal,
		Action:          req.GetAction(),
		Target:          req.GetTarget(),
		ArgumentsSha256: req.GetArgumentsSha256(),
		Origin:          req.GetOrigin(),
		Expires:         timestamppb.New(expires),
	}
	if t != nil {
		g.ToolDigest = t.digest
	}
	return s.sealer.Load().Seal(g)
}

func (s *Service) record(ctx context.Context, c *caller, req *authv1.AuthorizeRequest, d *authv1.Decision, r *ruling) error {
	p, o := c.principal, req.GetOrigin()
	decision := &auditv1.Decision{
		Verdict:    d.GetVerdict(),
		Reason:     d.GetReason(),
		Rule:       d.GetPolicy(),
		RuleSource: r.source,
		Message:    d.GetMessage(),
		ApprovalId: r.approval,
		Policies:   r.version(),
		Inputs:     r.inputs(),
		NearMisses: r.nearMisses(),
	}
	if req.GetAction() == authv1.Action_ACTION_TOOLS_CALL {
		decision.Arguments = &auditv1.Arguments{Sha256: req.GetArgumentsSha256(), Shape: req.GetArgumentsShape()}
	}
	return s.deps.Audit.Record(ctx, &auditv1.Event{
		DecisionId: d.GetId(),
		Actor: &auditv1.Actor{
			Principal:    p.GetId(),
			CredentialId: p.GetCredentialId(),
			Tenant:       p.GetTenant(),
			Roles:        p.GetRoles(),
			Address:      o.GetAddress(),
			Client:       o.GetClient(),
			ContextId:    o.GetContextId(),
		},
		Action: actions[req.GetAction()].method,
		Target: req.GetTarget(),
		What:   &auditv1.Event_Decision{Decision: decision},
	})
}

// touched is the tool that a use of a key was for, if it exists as such.
func touched(req *authv1.AuthorizeRequest) string {
	if req.GetAction() != authv1.Action_ACTION_TOOLS_CALL {
		return ""
	}
	return clip(req.GetTarget(), 64)
}
