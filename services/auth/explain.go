package auth

import (
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// grounds is what a decision was made of, to tell it afterwards.
type grounds struct {
	backdrop  *backdrop
	action    authv1.Action
	object    *policy.Object
	match     *policy.Match // nil: no policy was asked
	situation policy.Situation
	outcome   policy.Outcome
}

// version is the hash of the policies that decided.
func (g *grounds) version() string {
	if g.backdrop == nil {
		return ""
	}
	return g.backdrop.set.Version()
}

// inputs is what policies read of the situation.
func (g *grounds) inputs() map[string]string {
	if g.match == nil {
		return nil
	}
	return g.match.Inputs(g.situation, nil)
}

// nearMisses are the policies that nearly permitted what was denied.
func (g *grounds) nearMisses() (near []*auditv1.NearMiss) {
	if g.match == nil {
		return nil
	}
	candidates := func() *policy.Candidates { return g.backdrop.candidates(g.action, g.object) }
	for _, m := range g.match.NearMisses(candidates, g.situation, g.outcome) {
		near = append(near, &auditv1.NearMiss{Rule: m.Rule.ID, RuleSource: m.Rule.Source, Missing: m.Missing})
	}
	return near
}

// These are what the contract has room for in an explanation.
const (
	maxAnnotations = 32
	maxApplied     = 64
	maxWaiting     = 16
	maxPaths       = 32
)

// explain tells all that led to a ruling.
func (r *ruling) explain() *authv1.Explanation {
	if r.needs != 0 {
		return r.explainNeeds()
	}
	e := &authv1.Explanation{
		Verdict:      r.verdict(),
		Reason:       r.reason,
		Policy:       r.rule,
		PolicySource: r.source,
		Message:      r.message,
		Inputs:       r.inputs(),
		NearMisses:   r.nearMisses(),
	}
	e.ScopesNeeded = r.scopes
	if r.lift != policy.ApprovalNone {
		e.Verdict, e.ApprovalByUser = auditv1.Verdict_VERDICT_APPROVAL, r.lift == policy.ApprovalUser
	}
	if r.match == nil {
		return e
	}
	for _, rule := range r.match.Applied(r.situation) {
		if len(e.GetPolicies()) < maxApplied {
			e.Policies = append(e.Policies, rule.ID)
		}
	}
	if rule := r.outcome.Rule; rule != nil {
		e.Annotations = rule.Annotations(maxAnnotations)
	}
	return e
}

// explainNeeds tells by which policies there is no ruling yet.
func (r *ruling) explainNeeds() *authv1.Explanation {
	waiting := r.match.Waiting(r.situation)
	e := &authv1.Explanation{
		ArgumentsNeeded: r.needs&policy.NeedArguments != 0,
		StepsNeeded:     r.needs&policy.NeedSteps != 0,
		SeenNeeded:      seenNeeded(r.needs),
		Inputs:          r.match.Inputs(r.situation, waiting),
	}
	if rule := r.outcome.Rule; r.outcome.Verdict == policy.NeedApproval {
		e.DependsOn = append(e.DependsOn, &authv1.Dependency{Policy: rule.ID, PolicySource: rule.Source, Approval: true})
	}
	for _, rule := range waiting[:min(len(waiting), maxWaiting-len(e.GetDependsOn()))] {
		arguments := rule.Arguments()
		e.DependsOn = append(e.DependsOn, &authv1.Dependency{
			Policy: rule.ID, PolicySource: rule.Source, Arguments: arguments[:min(len(arguments), maxPaths)], Inputs: rule.Reads(),
		})
	}
	return e
}
