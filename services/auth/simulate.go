package auth

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// simulation decides about cases, and does nothing.
type simulation struct {
	backdrop *backdrop
	keys     func() ([]*keyring.Key, error) // all there are; the error is a fault
	now      time.Time

	byID   map[string]*keyring.Key // nil: not asked for yet
	byName map[string]*keyring.Key
}

// simulate answers a request by what is in use, or by what comes with it. The
// error is a fault.
func simulate(ctx context.Context, req *authv1.SimulateRequest, inUse *backdrop, keys func() ([]*keyring.Key, error)) (*authv1.SimulateResponse, error) {
	set := inUse.set
	if files := filesOf(req.GetCandidates()); len(files) > 0 {
		var err error
		if set, err = policy.Load(files); err != nil {
			return nil, policyFault(err)
		}
	}
	if set == nil {
		return nil, notReady()
	}
	s := &simulation{backdrop: newBackdrop(set, overlay(inUse.tools, req.GetTools())), keys: keys, now: time.Now()}
	resp := &authv1.SimulateResponse{Version: set.Version()}
	for _, c := range req.GetCases() {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e, err := s.explain(c)
		if err != nil {
			return nil, err
		}
		resp.Explanations = append(resp.Explanations, e)
	}
	return resp, nil
}

// explain decides about a case and tells why.
func (s *simulation) explain(c *authv1.SimulatedCase) (*authv1.Explanation, error) {
	now := s.now
	if c.GetTime() != nil {
		now = c.GetTime().AsTime()
	}
	who, refused, err := s.caller(c, now)
	if err != nil || refused != nil {
		return refused, err
	}
	req := &authv1.AuthorizeRequest{
		Origin: c.GetOrigin(), Action: c.GetAction(), Target: c.GetTarget(), Arguments: c.GetArguments(),
	}
	if req.GetOrigin() == nil {
		req.Origin = new(authv1.Origin)
	}
	sum := sha256.Sum256(c.GetArguments())
	req.ArgumentsSha256 = sum[:]
	r, err := s.backdrop.decide(who, req, now, nil)
	if err == nil && seenNeeded(r.needs) && !c.GetSeenUnknown() {
		seen := &policy.Seen{Labels: c.GetSeen().GetLabels(), Suspects: append([]string{}, c.GetSeen().GetArguments()...)}
		slices.Sort(seen.Suspects)
		r, err = s.backdrop.decide(who, req, now, seen)
	}
	if err != nil {
		return nil, err
	}
	return r.explain(), nil
}

// caller returns who a case is about, or why nobody with this key would get to
// policies. The error is a fault.
func (s *simulation) caller(c *authv1.SimulatedCase, now time.Time) (*caller, *authv1.Explanation, error) {
	if p := c.GetPrincipal(); p != nil {
		return &caller{principal: p, subject: policy.NewSubject(p, c.GetScopes()), scopes: scopesOf(c.GetScopes())}, nil, nil
	}
	if s.byID == nil {
		if err := s.index(now); err != nil {
			return nil, nil, err
		}
	}
	key := s.byID[c.GetKeyId()]
	if c.GetKeyName() != "" {
		key = s.byName[c.GetKeyName()]
	}
	if key == nil {
		return nil, nil, fault.New(codes.NotFound, authv1.Reason_REASON_KEY_UNKNOWN, "no key is called %s", shown(c.GetKeyId()+c.GetKeyName()))
	}
	refuse := func(reason auditv1.Reason, message string) *authv1.Explanation {
		return &authv1.Explanation{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: reason, Message: message}
	}
	switch {
	case !key.Record.Revoked.IsZero():
		return nil, refuse(auditv1.Reason_REASON_CREDENTIAL_REVOKED, "The key is revoked."), nil
	case !now.Before(key.Record.Expires):
		return nil, refuse(auditv1.Reason_REASON_CREDENTIAL_EXPIRED, "The key is expired."), nil
	case !key.AllowsAddress(c.GetOrigin().GetAddress()):
		return nil, refuse(auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, "The key may not be used from this address."), nil
	}
	return ofKey(key, now), nil, nil
}

// index finds keys by id and name. Of several keys with one name the live one
// counts, or else the newest.
func (s *simulation) index(now time.Time) error {
	all, err := s.keys()
	if err != nil {
		return err
	}
	s.byID, s.byName = make(map[string]*keyring.Key, len(all)), make(map[string]*keyring.Key, len(all))
	for _, k := range all { // oldest first
		s.byID[k.Record.ID] = k
		if old := s.byName[k.Record.Name]; old == nil || !old.Live(now) {
			s.byName[k.Record.Name] = k
		}
	}
	return nil
}

// overlay adds described tools to those of the catalogue. It returns nil, not
// known, only where there are neither.
func overlay(known map[string]*tool, described []*authv1.SimulatedTool) map[string]*tool {
	if len(described) == 0 {
		return known
	}
	all := make(map[string]*tool, len(known)+len(described))
	for name, t := range known {
		all[name] = t
	}
	for _, d := range described {
		all[d.GetName()] = &tool{cost: 1, scopes: d.GetScopes(), object: policy.NewTool(&executorv1.Catalogue_Entry{
			Name:    d.GetName(),
			Service: d.GetService(),
			Options: &toolv1.Tool{
				Risk: map[string]toolv1.Risk{
					"read": toolv1.Risk_RISK_READ, "write": toolv1.Risk_RISK_WRITE, "destructive": toolv1.Risk_RISK_DESTRUCTIVE,
				}[d.GetRisk()],
				Trust: map[string]toolv1.Trust{
					"trusted": toolv1.Trust_TRUST_TRUSTED, "internal": toolv1.Trust_TRUST_INTERNAL, "untrusted": toolv1.Trust_TRUST_UNTRUSTED,
				}[d.GetTrust()],
				Sensitivity: map[string]toolv1.Sensitivity{
					"public": toolv1.Sensitivity_SENSITIVITY_PUBLIC, "internal": toolv1.Sensitivity_SENSITIVITY_INTERNAL,
					"confidential": toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL,
				}[d.GetSensitivity()],
				Outbound: d.GetOutbound(),
				Tags:     d.GetTags(),
				Scopes:   d.GetScopes(),
			},
		})}
	}
	return all
}
