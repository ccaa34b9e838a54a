package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// replayer decides again what was decided.
type replayer struct {
	*legislator

	audit    auditv1.AuditServiceClient
	keys     authv1.KeyServiceClient
	limit    int
	progress bool // somebody is watching
}

// tally is what came of it.
type tally struct {
	seen    int // decisions of policies
	same    int
	flipped int
	other   int  // decisions that policies have no part in
	more    bool // there are older ones than the limit lets in
	unknown map[unknownWhy]int
	flips   map[flip]int
	example map[flip]string // a decision's id
}

// recorded is a decision on record, as a case.
type recorded struct {
	recall

	one *authv1.SimulatedCase
	old auditv1.Verdict // of policies
}

func (r *replayer) replay(ctx context.Context, paths []string, since time.Time, span string) error {
	set, err := readPolicies(paths)
	if err != nil {
		return err
	}
	if err := r.good(ctx, set); err != nil {
		return err
	}
	keys, err := allKeys(ctx, r.keys)
	if err != nil {
		return trouble(err)
	}
	byID := make(map[string]*authv1.Key)
	for _, k := range keys {
		byID["key:"+k.GetId()] = k
	}
	t := tally{unknown: make(map[unknownWhy]int), flips: make(map[flip]int), example: make(map[flip]string)}
	// Pages go from the newest back, and what is recorded meanwhile is not in them.
	req := &auditv1.QueryRequest{PageSize: 500, Filter: &auditv1.Filter{
		Kinds: []auditv1.Kind{auditv1.Kind_KIND_DECISION}, Since: timestamppb.New(since), Until: timestamppb.Now(),
	}}
	for {
		page, err := r.audit.Query(ctx, req)
		if err != nil {
			return trouble(err)
		}
		var batch []recorded
		for _, e := range page.GetEvents() {
			one, ok := again(e, byID)
			switch {
			case !ok:
				t.other++
			case t.seen+len(batch) == r.limit:
				t.more = true
			default:
				batch = append(batch, one)
			}
		}
		if err := r.decide(ctx, set.files, batch, byID, &t); err != nil {
			return err
		}
		if r.progress {
			fmt.Fprintf(r.err, "\r%d decisions …", t.seen)
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" || t.more {
			break
		}
	}
	if r.progress {
		fmt.Fprint(r.err, "\r\x1b[K")
	}
	return r.showTally(&t, span)
}

// again makes a case of a recorded decision. It reports false for those that
// policies have no part in: of credentials, quotas, requests that were no good,
// and of what a key or a task is restricted to.
func again(e *auditv1.Event, keys map[string]*authv1.Key) (recorded, bool) {
	d, a := e.GetDecision(), e.GetActor()
	action, known := replayable[e.GetAction()]
	if e.GetService() != "auth" || a.GetPrincipal() == "" || !known || e.GetDecisionId() == "" {
		return recorded{}, false
	}
	old := d.GetVerdict()
	switch {
	case d.GetReason() == auditv1.Reason_REASON_APPROVAL_REQUIRED, d.GetApprovalId() != "":
		old = auditv1.Verdict_VERDICT_APPROVAL // whatever somebody has answered to it
	case d.GetReason() == auditv1.Reason_REASON_UNSPECIFIED:
	case d.GetReason() == auditv1.Reason_REASON_POLICY_DENIED && d.GetRule() != ruleTask:
	default:
		return recorded{}, false
	}
	then := recall{e, keys[a.GetPrincipal()]}
	seen := then.seen()
	return recorded{then, &authv1.SimulatedCase{
		Seen: seen, SeenUnknown: seen == nil,
		Subject: &authv1.SimulatedCase_Principal{Principal: then.principal()}, Scopes: then.scopes(),
		Action: action, Target: e.GetTarget(), Time: e.GetTime(), Origin: then.origin(),
	}, old}, true
}

// ruleTask is the name that denials of a client's own list of tools have.
const ruleTask = "task-tools"

// replayable are the actions that policies are asked about, by the names they
// have on record.
var replayable = map[string]authv1.Action{
	"tools/list":           authv1.Action_ACTION_TOOLS_LIST,
	"tools/call":           authv1.Action_ACTION_TOOLS_CALL,
	"resources/list":       authv1.Action_ACTION_RESOURCES_LIST,
	"resources/read":       authv1.Action_ACTION_RESOURCES_READ,
	"prompts/list":         authv1.Action_ACTION_PROMPTS_LIST,
	"prompts/get":          authv1.Action_ACTION_PROMPTS_GET,
	"completion/complete":  authv1.Action_ACTION_COMPLETE,
	"subscriptions/listen": authv1.Action_ACTION_SUBSCRIBE,
}

// decide decides a batch again, by the candidates and, for what differs, by the
// policies in use: an old difference is no effect of the candidates.
func (r *replayer) decide(ctx context.Context, candidates []*authv1.PolicyFile, batch []recorded, keys map[string]*authv1.Key, t *tally) error {
	explanations, err := r.simulate(ctx, candidates, batch)
	if err != nil {
		return err
	}
	var flipped []recorded
	var found []*authv1.Explanation
	for i, one := range batch {
		t.seen++
		now := explanations[i]
		switch why := one.untold(now); {
		case why != "":
			t.unknown[why]++
		case verdictAgain(now) == one.old:
			t.same++
		default:
			flipped, found = append(flipped, one), append(found, now)
		}
	}
	inUse, err := r.simulate(ctx, nil, flipped)
	if err != nil {
		return err
	}
	for i, one := range flipped {
		f := flip{
			Principal: one.event.GetActor().GetPrincipal(), Name: keys[one.event.GetActor().GetPrincipal()].GetName(),
			Target: cmp.Or(one.event.GetTarget(), one.event.GetAction()),
			Old:    verdictName(one.old), New: verdictName(verdictAgain(found[i])),
			InUse: verdictName(verdictAgain(inUse[i])),
		}
		f.Policy, f.Source = deciding(found[i])
		t.flipped++
		t.flips[f]++
		if t.example[f] == "" {
			t.example[f] = one.event.GetDecisionId()
		}
	}
	return nil
}

func (r *replayer) simulate(ctx context.Context, candidates []*authv1.PolicyFile, batch []recorded) ([]*authv1.Explanation, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	req := &authv1.SimulateRequest{Candidates: candidates}
	for _, one := range batch {
		req.Cases = append(req.Cases, one.one)
	}
	resp, err := r.policies.Simulate(ctx, req)
	if err != nil {
		return nil, trouble(err)
	}
	if len(resp.GetExplanations()) != len(batch) {
		return nil, &exitError{exitUsage, fmt.Errorf("%d answers to %d cases", len(resp.GetExplanations()), len(batch))}
	}
	return resp.GetExplanations(), nil
}

func (r *replayer) showTally(t *tally, span string) error {
	flips := slices.SortedFunc(maps.Keys(t.flips), func(a, b flip) int {
		return cmp.Or(cmp.Compare(t.flips[b], t.flips[a]), cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Target, b.Target),
			cmp.Compare(a.String(), b.String()), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.InUse, b.InUse))
	})
	rows := [][]string{{"COUNT", "PRINCIPAL", "TARGET", "THEN -> NEW", "POLICY", "IN USE", "FOR EXAMPLE"}}
	list := []map[string]any{}
	for _, f := range flips {
		who := f.Principal
		if f.Name != "" {
			who += " (" + f.Name + ")"
		}
		rows = append(rows, []string{
			strconv.Itoa(t.flips[f]), who, f.Target, f.String(), cmp.Or(strings.TrimSpace(f.Policy+" "+f.Source), "none permits"), f.InUse, t.example[f],
		})
		list = append(list, map[string]any{
			"count": t.flips[f], "principal": f.Principal, "name": f.Name, "target": f.Target, "old": f.Old, "new": f.New,
			"policy": f.Policy, "policy_source": f.Source, "in_use": f.InUse, "example": t.example[f],
		})
	}
	if r.json {
		err := writeJSON(r.out, map[string]any{
			"decisions": t.seen, "same": t.same, "flipped": t.flipped, "unknown": t.unknown, "not_of_policies": t.other, "limited": t.more, "flips": list,
		})
		if err != nil {
			return failed(err)
		}
	} else {
		if len(flips) > 0 {
			if err := table(r.out, rows); err != nil {
				return failed(err)
			}
			fmt.Fprintln(r.out)
		}
		fmt.Fprintf(r.out, "%d decisions of %s: %d as before, %d otherwise\n", t.seen, span, t.same, t.flipped)
		for _, why := range slices.Sorted(maps.Keys(t.unknown)) {
			fmt.Fprintf(r.out, "%d cannot be told: %s\n", t.unknown[why], why)
		}
		if t.other > 0 {
			fmt.Fprintf(r.out, "%d more are not of policies: of credentials, limits and requests\n", t.other)
		}
		if t.more {
			fmt.Fprintf(r.out, "there are older ones; only the newest %d were taken (--limit)\n", r.limit)
		}
	}
	if t.flipped > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}
