package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
)

func TestEveryReasonIsExplained(t *testing.T) {
	t.Parallel()
	unknownMeans, unknownNext := meaning(auditv1.Reason(9999))
	seen := make(map[string]auditv1.Reason)
	for n := range auditv1.Reason_name {
		r := auditv1.Reason(n)
		means, next := meaning(r)
		if means == "" || next == "" || means == unknownMeans || next == unknownNext {
			t.Errorf("%v is not explained", r)
		}
		if other, twice := seen[means]; twice {
			t.Errorf("%v and %v mean the same", r, other)
		}
		seen[means] = r
		for _, text := range []string{means, next} {
			if !strings.HasSuffix(text, ".") || strings.ContainsAny(text, "\n\t") {
				t.Errorf("%v: %q is no sentence on one line", r, text)
			}
		}
	}
}

// servedDesk is an approval service that knows some.
type servedDesk struct {
	authv1.UnimplementedApprovalServiceServer
	approvals []*authv1.CallApproval
}

func (d *servedDesk) ListApprovals(context.Context, *authv1.ListApprovalsRequest) (*authv1.ListApprovalsResponse, error) {
	return &authv1.ListApprovalsResponse{Approvals: d.approvals}, nil
}

// story is what happens to a decision, as the record has it.
func story(what ...any) []*auditv1.Event {
	var all []*auditv1.Event
	for i, w := range what {
		e := decided(i, "key:aaaaaaaaaa", "look", nil)
		e.DecisionId = theDecision
		e.Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		e.Actor.CredentialId, e.Actor.ContextId = "aaaaaaaaaa", "task 1"
		switch w := w.(type) {
		case *auditv1.Decision:
			e.What = &auditv1.Event_Decision{Decision: w}
		case *auditv1.Intent:
			e.Service, e.What = "executor", &auditv1.Event_Intent{Intent: w}
		case *auditv1.Outcome:
			e.Service, e.What = "executor", &auditv1.Event_Outcome{Outcome: w}
		}
		all = append(all, e)
	}
	return all
}

const theDecision = "d_01KB3ZJ5W8Q2V7N4XH6TTC9RDE"

func TestWhy(t *testing.T) {
	t.Parallel()
	sum := bytes.Repeat([]byte{0xab}, 32)
	inUse := versionOf(newStatute().files)
	allowed := &auditv1.Decision{
		Verdict: auditv1.Verdict_VERDICT_ALLOW, Rule: "all", RuleSource: "default.cedar:1", Message: "Admins may.", Policies: inUse,
		Arguments: &auditv1.Arguments{Sha256: sum, Shape: "{text: string(5)}"}, Inputs: map[string]string{"address": "10.0.0.7", "arguments": "text"},
	}
	intent := &auditv1.Intent{Arguments: allowed.GetArguments(), Service: "basics"}
	done := &auditv1.Outcome{Status: auditv1.Status_STATUS_OK, Duration: durationpb.New(3 * time.Millisecond), ResultBytes: 7}
	guarded := &auditv1.Outcome{Status: auditv1.Status_STATUS_OK, GuardFindings: []*auditv1.GuardFinding{
		{Guard: "secrets", Rule: "github-pat", Side: auditv1.GuardSide_GUARD_SIDE_RESULT, Action: auditv1.GuardAction_GUARD_ACTION_REDACTED, Count: 2, Pointer: "/content/0/text"},
		{Guard: "external", Rule: "bidi", Side: auditv1.GuardSide_GUARD_SIDE_ARGUMENTS, Action: auditv1.GuardAction_GUARD_ACTION_OBSERVED, Count: 1, Pointer: "/a", Score: 0.75},
	}}
	lost := &auditv1.Outcome{Status: auditv1.Status_STATUS_UNKNOWN, Reason: auditv1.Reason_REASON_TOOL_TIMEOUT}
	denied := &auditv1.Decision{
		Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_POLICY_DENIED, Message: "No policy permits it.", Policies: "0123456789abcdef",
		NearMisses: []*auditv1.NearMiss{{Rule: "analysts-read", RuleSource: "default.cedar:41", Missing: "the role analyst"}},
	}
	quota := &auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_QUOTA_EXCEEDED, Rule: "per-key", Message: "Too many."}
	asked := &auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_APPROVAL, Reason: auditv1.Reason_REASON_APPROVAL_REQUIRED, Rule: "ask", ApprovalId: "a_1"}
	grant := &auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_GRANT_INVALID, Rule: "grant: expired", Message: "the call is not granted"}
	wild := &auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_TOOL_UNKNOWN, Message: "No tool \x1b[31m."}
	wildStory := story(wild)
	wildStory[0].Target = "$(rm -rf ~)\x1b[2J"
	const common = "who        key:aaaaaaaaaa, roles admin, tenant acme\n" +
		"from       address 10.0.0.7, client cli/1, context task 1\n" +
		"what       tools/call look\n"
	const trace = "trace      4bf92f3577b34da6a3ce929d0e0e4736\n"
	tests := []struct {
		name   string
		events []*auditv1.Event
		whole  string
		parts  []string
		not    []string
	}{
		{
			name: "a call that went well", events: story(allowed, intent, done),
			whole: theDecision + "  DONE\n" +
				"           A policy permits it, and none forbids it.\n" +
				"told       Admins may.\n" +
				"policy     all (default.cedar:1)\n" +
				"           @id(\"all\")\n           @reason(\"Admins may.\")\n           permit (principal in Role::\"admin\", action, resource);\n" +
				common +
				"arguments  {text: string(5)}\n           sha256 " + strings.Repeat("ab", 32) + "\n" +
				"inputs     address 10.0.0.7\n           arguments text\n" +
				"happened   2026-11-02 12:00:00.000  auth      ALLOW     all\n" +
				"           2026-11-02 12:00:01.000  executor  INTENT    {text: string(5)}\n" +
				"           2026-11-02 12:00:02.000  executor  OK        3ms\n" +
				trace +
				"next       Nothing has to be done.\n",
		},
		{
			name: "a denial by policies that have changed since", events: story(denied),
			whole: theDecision + "  DENIED  POLICY_DENIED\n" +
				"           A policy forbids it, or none permits it.\n" +
				"told       No policy permits it.\n" +
				"policy     none: no policy permits it, so it is denied\n" +
				"policies   0123456789ab then, " + short(inUse) + " now: they have changed since\n" +
				common +
				"near       would be allowed with: the role analyst (analysts-read, default.cedar:41)\n" +
				"happened   2026-11-02 12:00:00.000  auth      DENY      POLICY_DENIED\n" +
				trace +
				"next       If it should be allowed, change the caller's roles or the policies, and try it before: sallyport policy diff PATH --replay 24h.\n" +
				"           sallyport can-i call look --as aaaaaaaaaa\n",
		},
		{
			name: "a quota refuses what policies have allowed", events: story(allowed, quota),
			parts: []string{"DENIED  QUOTA_EXCEEDED", "told       Too many.", "policy     per-key\n", "ALLOW     all", "DENY      QUOTA_EXCEEDED per-key", "Wait as long as"},
		},
		{
			name: "the executor refuses the grant", events: story(allowed, grant),
			parts: []string{"DENIED  GRANT_INVALID", "policy     grant: expired", "captured edge"},
		},
		{
			name: "a call of which nobody knows the end", events: story(allowed, intent, lost),
			parts: []string{"UNKNOWN  TOOL_TIMEOUT", "whether it did something is not known", "policy     all"},
		},
		{
			name: "one whose result guards have changed", events: story(allowed, intent, guarded),
			parts: []string{"guards     secrets redacted: github-pat in the result, 2 times, first at /content/0/text\n" +
				"           external observed: bidi in the arguments, 1 times, first at /a, score 0.75\n"},
		},
		{name: "a call that has not ended", events: story(allowed, intent), parts: []string{"ALLOWED\n"}},
		{
			name: "one that waits for an approval", events: story(asked),
			parts: []string{"APPROVAL  APPROVAL_REQUIRED", "approval   a_1 is denied; decided by anna at 2026-11-02T12:00:00Z\n           not today", "sallyport approvals show a_1"},
		},
		{
			name: "nothing that a caller has made up acts on the terminal or gets into a command", events: wildStory,
			parts: []string{"what       tools/call $(rm -rf ~)<U+001B>[2J", "told       No tool <U+001B>[31m."},
			not:   []string{"\x1b", "can-i"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := inquiryOf(t, &archive{events: tt.events}, newStatute())
			d, err := q.dossier(t.Context(), theDecision)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := d.write(paperFor(&out)); err != nil {
				t.Fatal(err)
			}
			if tt.whole != "" {
				if diff := cmp.Diff(tt.whole, out.String()); diff != "" {
					t.Errorf("text (-want +got):\n%s", diff)
				}
			}
			for _, part := range tt.parts {
				if !strings.Contains(out.String(), part) {
					t.Errorf("%q is not in\n%s", part, out.String())
				}
			}
			for _, part := range tt.not {
				if strings.Contains(out.String(), part) {
					t.Errorf("%q is in\n%s", part, out.String())
				}
			}
			out.Reset()
			if err := d.writeJSON(&out); err != nil {
				t.Fatal(err)
			}
			var got struct {
				DecisionID string `json:"decision_id"`
				Verdict    string
				Reason     string
				Next       string
				Events     []map[string]any
			}
			if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.DecisionID != theDecision || got.Verdict != d.verdict() ||
				got.Reason != reasonName(d.reason()) || got.Next == "" || len(got.Events) != len(tt.events) {
				t.Errorf("for programs: got %s (%v)", out.String(), err)
			}
		})
	}
}

// inquiryOf asks services of tests; the store knows one approval, denied.
func inquiryOf(t *testing.T, a *archive, s *statute) *inquiry {
	t.Helper()
	approvals := &servedDesk{approvals: []*authv1.CallApproval{{
		Id: "a_1", State: authv1.ApprovalState_APPROVAL_STATE_DENIED, DecidedBy: "anna", DecideTime: timestamppb.New(noon), Note: "not today",
		Arguments: []byte(`{"secret":"x"}`),
	}}}
	return &inquiry{
		audit: a.client(t), tick: time.Millisecond, policies: s.client(t),
		approvals: authv1.NewApprovalServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) {
			authv1.RegisterApprovalServiceServer(r, approvals)
		}, rpctest.As("sallyport"))),
	}
}

func TestArgumentsOfApprovalsAreNotInDossiers(t *testing.T) {
	t.Parallel()
	q := inquiryOf(t, &archive{events: story(&auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_APPROVAL, ApprovalId: "a_1"})}, newStatute())
	d, err := q.dossier(t.Context(), theDecision)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := d.writeJSON(&out); err != nil || !strings.Contains(out.String(), `"state":"APPROVAL_STATE_DENIED"`) || strings.Contains(out.String(), "arguments") {
		t.Errorf("got %s (%v)", out.String(), err)
	}
}

func TestWhyWithoutAuthTellsWhatIsOnRecord(t *testing.T) {
	t.Parallel()
	q := &inquiry{audit: (&archive{events: story(&auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_ALLOW, Rule: "all", Policies: "0123456789abcdef"})}).client(t)}
	d, err := q.dossier(t.Context(), theDecision)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := d.write(paperFor(&out)); err != nil || !strings.Contains(out.String(), "which are in use now is not known") {
		t.Errorf("got %s (%v)", out.String(), err)
	}
}

func TestDecisionsThatAreNotFound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		lag  uint64
		want string
	}{
		{"the index has all there is", 0, "within a tenth of a second"},
		{"the index is behind", 12, "12 messages behind"},
	}
	for _, tt := range tests {
		q := inquiryOf(t, &archive{lag: tt.lag}, newStatute())
		_, err := q.dossier(t.Context(), theDecision)
		if codeOf(err) != exitNo || !strings.Contains(fmt.Sprint(err), tt.want) || !strings.Contains(err.Error(), "sallyport audit tail") {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}

func TestADecisionThatIsSoonThere(t *testing.T) {
	t.Parallel()
	a := &archive{events: story(&auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_ALLOW}), late: 3}
	q := inquiryOf(t, a, newStatute())
	q.wait = time.Minute
	if _, err := q.dossier(t.Context(), theDecision); err != nil || a.asked != 4 {
		t.Errorf("got error %v after %d questions, want none after 4", err, a.asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q = inquiryOf(t, &archive{late: 1 << 30}, newStatute())
	q.wait = time.Hour
	if _, err := q.dossier(ctx, theDecision); codeOf(err) != exitNo {
		t.Errorf("after an interrupt: got error %v", err)
	}
}

func TestTheLastRefusal(t *testing.T) {
	t.Parallel()
	deny := &auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_POLICY_DENIED}
	events := []*auditv1.Event{decided(1, "key:a", "look", deny), decided(2, "key:a", "more", deny), decided(3, "key:a", "last", &auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_ALLOW})}
	d, err := inquiryOf(t, &archive{events: events}, newStatute()).dossier(t.Context(), "")
	if err != nil || d.id != events[1].GetDecisionId() {
		t.Errorf("got %v, %v; want the second", d, err)
	}
	bad := decided(4, "", "", &auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_CREDENTIAL_UNKNOWN})
	bad.DecisionId = "" // nobody was told one
	d, err = inquiryOf(t, &archive{events: append(events, bad)}, newStatute()).dossier(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := d.write(paperFor(&out)); err != nil || !strings.HasPrefix(out.String(), "DENIED  CREDENTIAL_UNKNOWN\n") {
		t.Errorf("got %s (%v)", out.String(), err)
	}
	if _, err := inquiryOf(t, &archive{}, newStatute()).dossier(t.Context(), ""); codeOf(err) != exitNo || !strings.Contains(err.Error(), "nothing was refused") {
		t.Errorf("an empty record: got %v", err)
	}
}
