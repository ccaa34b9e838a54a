package main

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// recall is what is known of a decision on record: what the record itself says, and
// what it says only where a policy has read it then.
type recall struct {
	event *auditv1.Event
	key   *authv1.Key // that was shown; nil if it was something else, or is forgotten
}

// maxScopes is how many scopes a case can have.
const maxScopes = 64

// principal is who asked then, as far as it is known.
func (r recall) principal() *authv1.Principal {
	a := r.event.GetActor()
	p := &authv1.Principal{Id: a.GetPrincipal(), CredentialId: a.GetCredentialId(), Tenant: a.GetTenant(), Roles: a.GetRoles()}
	p.Name = cmp.Or(r.input("principal.name"), r.key.GetName())
	p.Owner = cmp.Or(r.input("principal.owner"), r.key.GetOwner())
	return p
}

// origin is how he asked, as far as it is known.
func (r recall) origin() *authv1.Origin {
	a := r.event.GetActor()
	o := &authv1.Origin{
		Address: a.GetAddress(), Client: a.GetClient(), ContextId: a.GetContextId(),
		ProtocolVersion: r.input("protocol"), ContextSource: contextSources[r.input("context_source")],
	}
	if n, err := strconv.ParseUint(r.input("hops"), 10, 32); err == nil {
		o.Hops = uint32(n)
	}
	if n, err := strconv.ParseUint(r.input("steps"), 10, 64); err == nil {
		o.Steps = &n
	}
	return o
}

// scopes are those of his token, as far as they are known.
func (r recall) scopes() []string {
	all := strings.Fields(r.input("principal.scopes"))
	return all[:min(len(all), maxScopes)]
}

func (r recall) input(name string) string { return r.event.GetDecision().GetInputs()[name] }

// knows reports whether an input is known. What has no room on record ends with "…".
func (r recall) knows(name string) bool {
	value, recorded := r.event.GetDecision().GetInputs()[name]
	who := r.event.GetActor().GetPrincipal()
	switch name {
	case "address", "client", "time": // of every decision
		return true
	case "seen": // the others say as much
		return true
	case "principal.name", "principal.owner":
		return recorded || r.key != nil
	case "principal.scopes":
		if strings.HasPrefix(who, "key:") || strings.HasPrefix(who, "spiffe:") {
			return true // they have none
		}
		return recorded && !strings.HasSuffix(value, "…") && len(strings.Fields(value)) <= maxScopes
	}
	return recorded && !strings.HasSuffix(value, "…")
}

// untold says why a decision cannot be told to be the same or another, "" if it
// can.
func (r recall) untold(now *authv1.Explanation) unknownWhy {
	switch {
	case verdictAgain(now) == auditv1.Verdict_VERDICT_APPROVAL:
	case now.GetArgumentsNeeded():
		return needsArguments
	case now.GetStepsNeeded():
		return needsSteps
	case now.GetSeenNeeded():
		return needsSeen
	case now.GetReason() == auditv1.Reason_REASON_TOOL_UNKNOWN:
		return toolGone
	case now.GetVerdict() == auditv1.Verdict_VERDICT_UNSPECIFIED:
		return noAnswer
	}
	missing := slices.DeleteFunc(slices.Sorted(maps.Keys(now.GetInputs())), r.knows)
	if len(missing) == 0 {
		return ""
	}
	return unknownWhy("needs " + strings.Join(missing, ", ") + ": not on record, where only what policies have read then is")
}

// verdictAgain is the verdict of a decision that is made again. Where the arguments
// are needed for nothing but to be shown to whoever approves, it is known without
// them.
func verdictAgain(now *authv1.Explanation) auditv1.Verdict {
	if d := now.GetDependsOn(); len(d) == 1 && d[0].GetApproval() {
		return auditv1.Verdict_VERDICT_APPROVAL
	}
	return now.GetVerdict()
}

// deciding returns the policy that decides, and where it is written.
func deciding(now *authv1.Explanation) (policy, source string) {
	if d := now.GetDependsOn(); len(d) > 0 {
		return d[0].GetPolicy(), d[0].GetPolicySource()
	}
	return now.GetPolicy(), now.GetPolicySource()
}
