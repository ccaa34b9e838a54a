package executor

import (
	"bytes"
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/grant"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

// refusedGrant is what everybody is told whose grant is not good. Which check
// failed is in the record only: it would help whoever forges one.
const refusedGrant = "the call is not granted"

// actions are the MCP names of what can be granted, for the record.
var actions = map[authv1.Action]string{
	authv1.Action_ACTION_TOOLS_CALL:     "tools/call",
	authv1.Action_ACTION_RESOURCES_LIST: "resources/list",
	authv1.Action_ACTION_RESOURCES_READ: "resources/read",
	authv1.Action_ACTION_PROMPTS_LIST:   "prompts/list",
	authv1.Action_ACTION_PROMPTS_GET:    "prompts/get",
	authv1.Action_ACTION_COMPLETE:       "completion/complete",
}

// admit checks a grant for something other than a call, and returns what is in
// it. It fails closed.
func (s *Service) admit(ctx context.Context, raw []byte, action authv1.Action, target string) (*authv1.Grant, error) {
	g, err := s.open(raw, action, target)
	if err != nil {
		return nil, s.denyGrant(ctx, g, action, target, err)
	}
	return g, nil
}

// open checks that a grant is genuine, not expired, for this target, and of a
// credential that is not known to be revoked.
func (s *Service) open(raw []byte, action authv1.Action, target string) (*authv1.Grant, error) {
	g, err := grant.Open(raw, s.keys, time.Now())
	if err != nil {
		return g, err
	}
	if g.GetAction() != action || g.GetTarget() != target {
		return g, grant.ErrCall
	}
	if s.revoked.Has(g.GetPrincipal().GetCredentialId()) {
		return g, grant.ErrRevoked
	}
	return g, nil
}

// openCall checks that a grant is for a call of a tool with these arguments.
func (s *Service) openCall(req *executorv1.CallRequest, sum []byte) (*authv1.Grant, error) {
	g, err := s.open(req.GetGrant(), authv1.Action_ACTION_TOOLS_CALL, req.GetTool())
	if err == nil && !bytes.Equal(g.GetArgumentsSha256(), sum) {
		err = grant.ErrCall
	}
	return g, err
}

// use checks that a grant was given for the tool as it is now, and uses it up
// if the tool is destructive. Only that costs a round trip to the bus.
func (s *Service) use(ctx context.Context, g *authv1.Grant, t *tool.Face) error {
	if d := g.GetToolDigest(); len(d) > 0 && !bytes.Equal(d, t.Digest) {
		return grant.ErrDigest
	}
	if !t.Destructive() {
		return nil
	}
	claiming, cancel := context.WithTimeout(ctx, s.cfg.AuditTimeout)
	defer cancel()
	return s.used.Use(claiming, g.GetDecisionId(), g.GetExpires().AsTime())
}

// denyGrant records that a grant was refused and returns what the caller is
// told. g is nil unless the grant is genuine.
func (s *Service) denyGrant(ctx context.Context, g *authv1.Grant, action authv1.Action, target string, why error) error {
	if errors.Is(why, grant.ErrFull) {
		s.log.ErrorContext(ctx, "the memory of used grants is full; destructive tools are refused", "max", s.cfg.MaxUsedGrants)
	}
	err := s.audit.Record(ctx, &auditv1.Event{
		DecisionId: g.GetDecisionId(),
		Actor:      actor(g),
		Action:     actions[action],
		Target:     clip(target, 512),
		What: &auditv1.Event_Decision{Decision: &auditv1.Decision{
			Verdict: auditv1.Verdict_VERDICT_DENY,
			Reason:  auditv1.Reason_REASON_GRANT_INVALID,
			Rule:    "grant: " + why.Error(),
			Message: refusedGrant,
		}},
	})
	if err != nil { // refused all the same
		s.log.ErrorContext(ctx, "a refused grant could not be recorded", "err", err)
	}
	return fault.New(codes.PermissionDenied, executorv1.Reason_REASON_GRANT, refusedGrant).Because(why)
}

// actor is who asked, from a genuine grant.
func actor(g *authv1.Grant) *auditv1.Actor {
	if g == nil {
		return nil
	}
	p, o := g.GetPrincipal(), g.GetOrigin()
	return &auditv1.Actor{
		Principal: p.GetId(), CredentialId: p.GetCredentialId(), Tenant: p.GetTenant(), Roles: p.GetRoles(),
		Address: o.GetAddress(), Client: o.GetClient(), ContextId: o.GetContextId(),
	}
}
