package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
)

// archive is an audit service that holds some events, oldest first.
type archive struct {
	auditv1.UnimplementedAuditServiceServer
	events []*auditv1.Event
	page   int    // how many a page has, if it is not 0
	lag    uint64 // that is told
	late   int    // so many questions are answered with nothing
	asked  int
}

func (a *archive) Query(_ context.Context, req *auditv1.QueryRequest) (*auditv1.QueryResponse, error) {
	a.asked++
	resp := &auditv1.QueryResponse{Lag: a.lag}
	if a.asked <= a.late {
		return resp, nil
	}
	f := req.GetFilter()
	var found []*auditv1.Event
	for _, e := range a.events {
		switch {
		case len(f.GetDecisionIds()) > 0 && !slices.Contains(f.GetDecisionIds(), e.GetDecisionId()),
			len(f.GetVerdicts()) > 0 && !slices.Contains(f.GetVerdicts(), e.GetDecision().GetVerdict()),
			len(f.GetKinds()) > 0 && e.GetDecision() == nil,
			f.GetSince() != nil && e.GetTime().AsTime().Before(f.GetSince().AsTime()):
		default:
			found = append(found, e)
		}
	}
	if !req.GetOldestFirst() {
		slices.Reverse(found)
	}
	from, _ := strconv.Atoi(req.GetPageToken())
	found = found[from:]
	size := int(req.GetPageSize())
	if a.page > 0 {
		size = a.page
	}
	if len(found) > size {
		found, resp.NextPageToken = found[:size], strconv.Itoa(from+size)
	}
	resp.Events = found
	return resp, nil
}

func (a *archive) client(t *testing.T) auditv1.AuditServiceClient {
	t.Helper()
	return auditv1.NewAuditServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) {
		auditv1.RegisterAuditServiceServer(r, a)
	}, rpctest.As("sallyport")))
}

// ringbook is a key service with some keys, two a page.
type ringbook struct {
	authv1.UnimplementedKeyServiceServer
	keys []*authv1.Key
}

func (b *ringbook) ListKeys(_ context.Context, req *authv1.ListKeysRequest) (*authv1.ListKeysResponse, error) {
	from, _ := strconv.Atoi(req.GetPageToken())
	resp := &authv1.ListKeysResponse{Keys: b.keys[from:min(from+2, len(b.keys))]}
	if from+2 < len(b.keys) {
		resp.NextPageToken = strconv.Itoa(from + 2)
	}
	return resp, nil
}

func (b *ringbook) client(t *testing.T) authv1.KeyServiceClient {
	t.Helper()
	return authv1.NewKeyServiceClient(rpctest.Serve(t, func(r grpc.ServiceRegistrar) {
		authv1.RegisterKeyServiceServer(r, b)
	}, rpctest.As("sallyport")))
}

func newRingbook() *ringbook {
	return &ringbook{keys: []*authv1.Key{
		{Id: "aaaaaaaaaa", Name: "ci", Owner: "anna", Roles: []string{"admin"}, State: authv1.KeyState_KEY_STATE_ACTIVE},
		{Id: "bbbbbbbbbb", Name: "old", Roles: []string{"analyst"}, State: authv1.KeyState_KEY_STATE_REVOKED},
		{Id: "cccccccccc", Name: "demo intern", Roles: []string{"intern"}, State: authv1.KeyState_KEY_STATE_ACTIVE},
		{Id: "dddddddddd", Name: "aaaaaaaaaa", Roles: []string{"intern"}, State: authv1.KeyState_KEY_STATE_ROTATING},
		{Id: "eeeeeeeeee", Name: "ci", Roles: []string{"admin"}, State: authv1.KeyState_KEY_STATE_EXPIRED},
	}}
}

// noon is when the events of these tests happened.
var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

// decided makes an event of a decision about a tool; n tells it from others.
func decided(n int, principal, tool string, d *auditv1.Decision) *auditv1.Event {
	return &auditv1.Event{
		Id: fmt.Sprintf("%026d", n), Time: timestamppb.New(noon.Add(time.Duration(n) * time.Second)), Service: "auth",
		DecisionId: fmt.Sprintf("d_%026d", n), Action: "tools/call", Target: tool,
		Actor: &auditv1.Actor{Principal: principal, Roles: []string{"admin"}, Tenant: "acme", Address: "10.0.0.7", Client: "cli/1"},
		What:  &auditv1.Event_Decision{Decision: d},
	}
}

func TestReplayingDecisions(t *testing.T) {
	t.Parallel()
	allow := func() *auditv1.Decision {
		return &auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_ALLOW, Rule: "all"}
	}
	denied := func(reason auditv1.Reason) *auditv1.Decision {
		return &auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: reason}
	}
	const key = "key:aaaaaaaaaa"
	far := decided(30, key, "look", allow())
	far.GetDecision().Inputs = map[string]string{"hops": "3"}
	used := decided(31, key, "pay", allow())
	used.GetDecision().ApprovalId = "a_1"
	task := decided(32, key, "look", denied(auditv1.Reason_REASON_POLICY_DENIED))
	task.GetDecision().Rule = "task-tools"
	asked := decided(34, key, "ask", denied(auditv1.Reason_REASON_APPROVAL_REQUIRED)) // and so it is now
	quota := decided(33, key, "look", denied(auditv1.Reason_REASON_QUOTA_EXCEEDED))
	quota.Service = "edge"
	events := []*auditv1.Event{
		decided(1, key, "look", allow()),
		decided(2, key, "delete", allow()),
		decided(3, key, "delete", allow()),
		decided(4, "user:x", "delete", allow()),
		decided(5, key, "odd", allow()),                                               // reads arguments
		decided(6, key, "count", allow()),                                             // reads steps
		decided(7, key, "gone", allow()),                                              // is not there any more
		decided(8, key, "hop", allow()),                                               // reads what was not recorded
		decided(9, key, "look", denied(auditv1.Reason_REASON_POLICY_DENIED)),          // permitted now
		decided(10, key, "look", denied(auditv1.Reason_REASON_CREDENTIAL_RESTRICTED)), // not of policies
		decided(11, key, "stale", allow()),                                            // forbidden today as well
		far, used, task, quota, asked,
	}
	decide := func(candidates bool, c *authv1.SimulatedCase) *authv1.Explanation {
		yes := &authv1.Explanation{Verdict: auditv1.Verdict_VERDICT_ALLOW, Policy: "all", PolicySource: "default.cedar:1"}
		no := &authv1.Explanation{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_POLICY_DENIED, Policy: "stop", PolicySource: "new.cedar:3"}
		p := c.GetPrincipal()
		if p.GetTenant() != "acme" || p.GetRoles()[0] != "admin" || c.GetOrigin().GetAddress() != "10.0.0.7" || c.GetTime().AsTime().Before(noon) ||
			p.GetId() == key && (p.GetName() != "ci" || p.GetOwner() != "anna") || c.Arguments != nil {
			t.Errorf("got the case %v", c)
		}
		switch c.GetTarget() {
		case "odd":
			return &authv1.Explanation{ArgumentsNeeded: true}
		case "count":
			return &authv1.Explanation{StepsNeeded: true}
		case "gone":
			return &authv1.Explanation{Verdict: auditv1.Verdict_VERDICT_DENY, Reason: auditv1.Reason_REASON_TOOL_UNKNOWN}
		case "hop":
			yes.Inputs = map[string]string{"hops": "0"}
		case "pay":
			return &authv1.Explanation{Verdict: auditv1.Verdict_VERDICT_APPROVAL, Reason: auditv1.Reason_REASON_APPROVAL_REQUIRED, Policy: "ask"}
		case "ask":
			return &authv1.Explanation{ArgumentsNeeded: true, DependsOn: []*authv1.Dependency{{Policy: "ask", PolicySource: "new.cedar:9", Approval: true}}}
		case "stale":
			return no
		case "delete":
			if candidates {
				return no
			}
		case "look":
			if c.GetOrigin().GetHops() == 3 {
				yes.Inputs = map[string]string{"hops": "3"}
			}
		}
		return yes
	}
	dir := folder(t, "new.cedar", morePolicy)
	tests := []struct {
		name   string
		events []*auditv1.Event
		limit  int
		since  time.Time
		files  string
		json   bool
		code   int
		stdout string
		stderr string
	}{
		{
			name: "what flips is grouped and counted", events: events, limit: 100, code: exitNo,
			stdout: "COUNT  PRINCIPAL            TARGET  THEN -> NEW    POLICY               IN USE  FOR EXAMPLE\n" +
				"2      key:aaaaaaaaaa (ci)  delete  allow -> deny  stop new.cedar:3     allow   d_" + fmt.Sprintf("%026d", 3) + "\n" +
				"1      key:aaaaaaaaaa (ci)  look    deny -> allow  all default.cedar:1  allow   d_" + fmt.Sprintf("%026d", 9) + "\n" +
				"1      key:aaaaaaaaaa (ci)  stale   allow -> deny  stop new.cedar:3     deny    d_" + fmt.Sprintf("%026d", 11) + "\n" +
				"1      user:x               delete  allow -> deny  stop new.cedar:3     allow   d_" + fmt.Sprintf("%026d", 4) + "\n\n" +
				"13 decisions of the last 24h: 4 as before, 5 otherwise\n" +
				"1 cannot be told: needs arguments, which are not on record\n" +
				"1 cannot be told: needs hops: not on record, where only what policies have read then is\n" +
				"1 cannot be told: needs steps, which are not on record\n" +
				"1 cannot be told: the tool is not there any more\n" +
				"3 more are not of policies: of credentials, limits and requests\n",
		},
		{
			name: "nothing flips", events: events[:1], limit: 100,
			stdout: "1 decisions of the last 24h: 1 as before, 0 otherwise\n",
		},
		{
			name: "the newest go before", events: events[:3], limit: 2, code: exitNo,
			stdout: "COUNT  PRINCIPAL            TARGET  THEN -> NEW    POLICY            IN USE  FOR EXAMPLE\n" +
				"2      key:aaaaaaaaaa (ci)  delete  allow -> deny  stop new.cedar:3  allow   d_" + fmt.Sprintf("%026d", 3) + "\n\n" +
				"2 decisions of the last 24h: 0 as before, 2 otherwise\n" +
				"there are older ones; only the newest 2 were taken (--limit)\n",
		},
		{
			name: "older ones do not count", events: events[:3], limit: 100, since: noon.Add(time.Minute),
			stdout: "0 decisions of the last 24h: 0 as before, 0 otherwise\n",
		},
		{name: "policies that are no good", events: events, limit: 100, files: "MISTAKE", code: exitUsage, stderr: "x.cedar:1: this is a MISTAKE"},
		{name: "for programs", events: events, limit: 100, json: true, code: exitNo},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStatute()
			s.decide = decide
			r := replayer{
				legislator: &legislator{policies: s.client(t), json: tt.json}, limit: tt.limit,
				audit: (&archive{events: tt.events, page: 4}).client(t), keys: newRingbook().client(t),
			}
			paths := []string{dir}
			if tt.files != "" {
				paths = []string{folder(t, "x.cedar", tt.files)}
			}
			since := tt.since
			if since.IsZero() {
				since = noon
			}
			code, stdout, stderr := session(r.legislator, func() error { return r.replay(t.Context(), paths, since, "the last 24h") })
			if code != tt.code || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("got exit %d, %q; want %d, %q", code, stderr, tt.code, tt.stderr)
			}
			if tt.stdout != "" {
				if diff := cmp.Diff(tt.stdout, stdout); diff != "" {
					t.Errorf("stdout (-want +got):\n%s", diff)
				}
			}
			if tt.json && (!strings.Contains(stdout, `"decisions":13,"flipped":5`) || !strings.Contains(stdout, `"in_use":"deny"`)) {
				t.Errorf("got %s", stdout)
			}
		})
	}
}
