package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// oneWord is an explanation in one word.
func oneWord(e *authv1.Explanation) string {
	switch e.GetVerdict() {
	case auditv1.Verdict_VERDICT_ALLOW:
		return "yes"
	case auditv1.Verdict_VERDICT_DENY:
		return "no"
	case auditv1.Verdict_VERDICT_APPROVAL:
		return "approval"
	}
	return "depends"
}

// because is an explanation in one line.
func because(e *authv1.Explanation) string {
	if needs := dependsOn(e); len(needs) > 0 {
		return "depends on " + strings.Join(needs, "; ")
	}
	return cmp.Or(e.GetMessage(), e.GetAnnotations()["reason"])
}

// writeExplanation tells a person how an answer came about.
func writeExplanation(p *paper, e *authv1.Explanation) {
	p.line("told", e.GetMessage())
	policy := e.GetPolicy()
	switch {
	case policy != "" && e.GetPolicySource() != "":
		policy += " (" + e.GetPolicySource() + ")"
	case policy == "" && e.GetReason() == auditv1.Reason_REASON_POLICY_DENIED:
		policy = "none: no policy permits it, so it is denied"
	}
	for _, name := range slices.Sorted(maps.Keys(e.GetAnnotations())) {
		if text := e.GetAnnotations()[name]; name != "id" && text != e.GetMessage() {
			policy += strings.TrimRight("\n@"+name+" "+text, " ")
		}
	}
	p.line("policy", policy)
	others := slices.DeleteFunc(slices.Clone(e.GetPolicies()), func(id string) bool { return id == e.GetPolicy() })
	p.line("also", strings.Join(others, ", "))
	p.line("inputs", inputs(e.GetInputs()))
	p.line("near", nearMisses(e.GetNearMisses()))
	p.line("scopes", strings.Join(e.GetScopesNeeded(), " "))

	_, next := meaning(e.GetReason())
	switch needs := dependsOn(e); {
	case len(needs) > 0:
		p.line("depends", "on "+strings.Join(needs, "\non "))
		p.line("next", askAgain(e))
	case e.GetVerdict() == auditv1.Verdict_VERDICT_APPROVAL && e.GetApprovalByUser():
		p.line("next", "The caller's own user can approve it in his client, or an operator: sallyport approvals list.")
	case e.GetVerdict() == auditv1.Verdict_VERDICT_APPROVAL:
		p.line("next", "An operator can approve it: sallyport approvals list.")
	case e.GetVerdict() == auditv1.Verdict_VERDICT_DENY:
		p.line("next", next)
	}
}

// explanationJSON is an explanation for programs.
func explanationJSON(e *authv1.Explanation) map[string]any {
	near := []map[string]string{}
	for _, n := range e.GetNearMisses() {
		near = append(near, map[string]string{"policy": n.GetRule(), "policy_source": n.GetRuleSource(), "missing": n.GetMissing()})
	}
	return map[string]any{
		"answer": oneWord(e), "reason": reasonName(e.GetReason()), "message": e.GetMessage(),
		"policy": e.GetPolicy(), "policy_source": e.GetPolicySource(), "annotations": e.GetAnnotations(), "policies": e.GetPolicies(),
		"inputs": e.GetInputs(), "near_misses": near, "depends_on": dependenciesJSON(e.GetDependsOn()),
		"arguments_needed": e.GetArgumentsNeeded(), "steps_needed": e.GetStepsNeeded(), "seen_needed": e.GetSeenNeeded(),
		"approval_by_user": e.GetApprovalByUser(), "scopes_needed": e.GetScopesNeeded(),
	}
}
