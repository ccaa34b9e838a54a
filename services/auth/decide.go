package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// maxMessage is what the contract has room for.
const maxMessage = 1024

// ruling is a decision before it is recorded.
type ruling struct {
	grounds
	needs policy.Needs // if any, there is no decision without them

	reason  auditv1.Reason // unspecified: allowed
	rule    string
	source  string // where the rule is written
	message string
	tool    *tool // if the decision is about one that exists

	lift     policy.Approval         // who can lift the forbid; a denial until somebody did
	approval string                  // id of the approval that it waits for, or that has decided
	pending  *authv1.PendingApproval // if it waits

	scopes []string // that the token has to have, where it lacks some
}

func (r *ruling) verdict() auditv1.Verdict {
	if r.reason == auditv1.Reason_REASON_UNSPECIFIED {
		return auditv1.Verdict_VERDICT_ALLOW
	}
	if r.pending != nil {
		return auditv1.Verdict_VERDICT_APPROVAL
	}
	return auditv1.Verdict_VERDICT_DENY
}

// decide is the decision itself: free of credentials, records and grants. The
// only errors are faults.
func (s *Service) decide(ctx context.Context, c *caller, req *authv1.AuthorizeRequest, now time.Time) (ruling, error) {
	if len(req.GetArguments()) > 0 {
		if sum := sha256.Sum256(req.GetArguments()); !bytes.Equal(sum[:], req.GetArgumentsSha256()) {
			return ruling{}, fault.New(codes.InvalidArgument, authv1.Reason_REASON_ARGUMENTS_HASH, "the arguments do not have the hash given with them")
		}
	}
	b := s.scene.current()
	r, err := b.decide(c, req, now, nil)
	if err != nil || !seenNeeded(r.needs) {
		return r, err
	}
	seen, err := s.seen(ctx, c, req, now)
	if err != nil {
		return ruling{}, err
	}
	return b.decide(c, req, now, seen)
}

// seenNeeded reports whether a decision waits for what the context has seen.
func seenNeeded(needs policy.Needs) bool {
	return needs&(policy.NeedSeen|policy.NeedSuspects) != 0
}

// decide is the decision by what is in use at one moment, and by what the context has
// seen if that is known. Whoever simulates gets it from here too.
func (b *backdrop) decide(c *caller, req *authv1.AuthorizeRequest, now time.Time, seen *policy.Seen) (ruling, error) {
	if b.set == nil {
		return ruling{}, notReady()
	}
	r := ruling{grounds: grounds{backdrop: b, action: req.GetAction()}}
	object, err := b.object(req.GetAction(), req.GetTarget(), &r.tool)
	if err != nil {
		return ruling{}, err
	}
	if object == nil {
		r.reason = auditv1.Reason_REASON_TOOL_UNKNOWN
		r.message = fmt.Sprintf("No tool is called %s. List the tools with tools/list and use one of their names.", shown(req.GetTarget()))
		return r, nil
	}
	if narrow(c, req, object, &r) {
		return r, nil
	}

	situation := policy.Situation{Origin: req.GetOrigin(), Time: now, Seen: seen}
	var match *policy.Match
	if lasting(object) {
		match = b.match(c.subject, req.GetAction(), object)
	} else {
		match = b.set.Match(c.subject, actions[req.GetAction()].policy, object)
	}
	out := match.Decide(situation)
	if out.Needs&policy.NeedArguments != 0 && len(req.GetArguments()) > 0 {
		if situation.Arguments, err = policy.ParseArguments(req.GetArguments()); err != nil {
			// The error names the kind of mistake and no value.
			r.reason, r.rule = auditv1.Reason_REASON_INVALID_ARGUMENTS, policy.RuleArguments
			r.message = fmt.Sprintf("The arguments were refused: %v.", err)
			return r, nil
		}
		out = match.Decide(situation)
	}
	r.object, r.match, r.situation, r.outcome = object, match, situation, out
	if out.Verdict == policy.Incomplete {
		if r.needs = out.Needs; seen != nil && r.needs&policy.NeedSuspects != 0 {
			// It is known what was seen, so it takes the arguments to tell.
			r.needs = r.needs&^policy.NeedSuspects | policy.NeedArguments
		}
		return r, nil
	}
	if out.Verdict == policy.NeedApproval && len(req.GetArguments()) == 0 { // whoever approves must see them
		r.needs = policy.NeedArguments
		return r, nil
	}
	r.take(out, c, req)
	r.stepUp(c)
	return r, nil
}

// narrow refuses what the client's task or the key itself leaves out, whatever
// policies say, and reports whether it did.
func narrow(c *caller, req *authv1.AuthorizeRequest, object *policy.Object, r *ruling) bool {
	call := req.GetAction() == authv1.Action_ACTION_TOOLS_CALL
	if call && !c.allowsTool(req.GetTarget()) || !call && object != gateway && c.toolsOnly() {
		r.reason, r.rule, r.source = auditv1.Reason_REASON_CREDENTIAL_RESTRICTED, policy.RuleKey, "key "+c.key.Record.ID
		r.message = fmt.Sprintf("This key may not be used for %s. Trying again will not help.", shown(req.GetTarget()))
		return true
	}
	if call && len(req.GetTaskTools()) > 0 && !slices.Contains(req.GetTaskTools(), req.GetTarget()) {
		r.reason, r.rule = auditv1.Reason_REASON_POLICY_DENIED, policy.RuleTask
		r.message = fmt.Sprintf("%s is not among the tools that the client declared for this task.", shown(req.GetTarget()))
		return true
	}
	return false
}

// take makes a ruling of what policies say.
func (r *ruling) take(out policy.Outcome, c *caller, req *authv1.AuthorizeRequest) {
	if out.Rule != nil {
		r.rule, r.source, r.message = out.Rule.ID, out.Rule.Source, out.Rule.Reason
	}
	if out.Verdict == policy.Allow {
		return
	}
	r.reason = auditv1.Reason_REASON_POLICY_DENIED
	switch {
	case out.Verdict == policy.NeedApproval:
		r.reason, r.lift = auditv1.Reason_REASON_APPROVAL_REQUIRED, out.Rule.Approval
		r.tellSeen(out.Rule)
	case out.Broken:
		r.message = "A policy that could forbid this cannot be evaluated for it, so it is refused. Ask the operator."
	case out.Rule != nil:
		r.tellSeen(out.Rule)
	default:
		method := actions[req.GetAction()].method
		r.message = clip(fmt.Sprintf("No policy permits %s of %s with the roles of this key (%s). Trying again will not help; ask the operator for access.",
			method, shown(req.GetTarget()), strings.Join(c.principal.GetRoles(), ", ")), maxMessage)
	}
}

// tellSeen adds to the policy's reason what was seen, if the policy reads that.
func (r *ruling) tellSeen(rule *policy.Rule) {
	if seenNeeded(rule.Needs()) {
		r.message = clip(strings.TrimSpace(r.message+" "+r.situation.Seen.Tells()), maxMessage)
	}
}

// object finds what a request is about. It returns nil for a tool that does not
// exist, and a fault when tools are not known yet.
func (b *backdrop) object(action authv1.Action, target string, found **tool) (*policy.Object, error) {
	switch action {
	case authv1.Action_ACTION_TOOLS_CALL:
		if b.tools == nil {
			return nil, notReady()
		}
		t := b.tools[target]
		if t == nil {
			return nil, nil
		}
		*found = t
		return t.object, nil
	case authv1.Action_ACTION_RESOURCES_READ:
		return policy.NewResource(target), nil
	case authv1.Action_ACTION_PROMPTS_GET:
		return policy.NewPrompt(target), nil
	case authv1.Action_ACTION_COMPLETE:
		if isTemplate(target) {
			return policy.NewResource(target), nil
		}
		return policy.NewPrompt(target), nil
	case authv1.Action_ACTION_SUBSCRIBE:
		if target != "" {
			return policy.NewResource(target), nil
		}
	}
	return gateway, nil
}

// isTemplate tells URI templates from names of prompts, of which both can hold
// any character: what can be completed in a template is a variable, so it has a
// brace. Edge and executor do not complete templates without one, nor prompts
// whose name has one, so what is done is what was decided about.
func isTemplate(target string) bool { return strings.Contains(target, "{") }

func notReady() error {
	return fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY, "keys, policies or tools are not known just now").After(time.Second)
}

// shown quotes a name that a caller has made up, or says that there is none.
func shown(name string) string {
	if name == "" {
		return "it"
	}
	return fmt.Sprintf("%q", clip(name, 128))
}

// clip cuts a text to at most n bytes, between characters.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
