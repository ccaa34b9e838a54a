package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	customersv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/customers/v1"
	"github.com/sallyport-mcp/sallyport/services/audit"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/executor"
)

// oneServer starts a NATS server for a test and returns its URL.
func oneServer(t *testing.T) string {
	t.Helper()
	cfg := bus.DefaultConfig()
	cfg.Dir, cfg.Sync, cfg.Listen = t.TempDir(), "2m", "127.0.0.1:0"
	b, err := bus.Open(cfg, "nats", embed.Start, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.URL()
}

// captured is an edge that is in an attacker's hands: he has its certificate, and
// the keys of clients who talk to it.
type captured struct {
	auth     authv1.AuthServiceClient
	executor executorv1.ExecutorServiceClient
}

// attempt is one kind of request to the executor.
type attempt struct {
	name      string // of the RPC
	action    authv1.Action
	target    string
	arguments string
	// do asks the executor, with arguments if it takes some.
	do func(ctx context.Context, grant []byte, arguments string) error
	// elsewhere is another target, and otherwise another action that can have the
	// same target.
	elsewhere string
	otherwise authv1.Action
	counts    bool // somebody behind the executor notices
}

const (
	actCall      = authv1.Action_ACTION_TOOLS_CALL
	actResources = authv1.Action_ACTION_RESOURCES_LIST
	actRead      = authv1.Action_ACTION_RESOURCES_READ
	actPrompts   = authv1.Action_ACTION_PROMPTS_LIST
	actPrompt    = authv1.Action_ACTION_PROMPTS_GET
	actComplete  = authv1.Action_ACTION_COMPLETE
)

// attempts are all RPCs that take a grant.
func (c captured) attempts() []attempt {
	call := func(tool string) func(context.Context, []byte, string) error {
		return func(ctx context.Context, grant []byte, arguments string) error {
			stream, err := c.executor.Call(ctx, &executorv1.CallRequest{Grant: grant, Tool: tool, Arguments: []byte(arguments)})
			if err != nil {
				return err
			}
			for {
				m, err := stream.Recv()
				switch {
				case errors.Is(err, io.EOF):
					return nil
				case err != nil:
					return err
				case m.GetResult().GetResult().GetIsError():
					return errors.New(m.GetResult().GetRefusal().GetMessage())
				}
			}
		}
	}
	return []attempt{
		{"Call, destructive", actCall, "delete_customer_account", `{"customer_id":7}`, call("delete_customer_account"), "get_customer", actPrompt, true},
		{"Call", actCall, "get_customer", `{"customer_id":7}`, call("get_customer"), "delete_customer_account", actPrompt, true},
		{"ListResources", actResources, "", "{}", func(ctx context.Context, grant []byte, _ string) error {
			_, err := c.executor.ListResources(ctx, &executorv1.ListResourcesRequest{Grant: grant})
			return err
		}, "", actPrompts, false},
		{"ReadResource", actRead, countedURI, "{}", func(ctx context.Context, grant []byte, _ string) error {
			_, err := c.executor.ReadResource(ctx, &executorv1.ReadResourceRequest{Grant: grant, Uri: countedURI})
			return err
		}, "count://two", actComplete, true},
		{"ListPrompts", actPrompts, "", "{}", func(ctx context.Context, grant []byte, _ string) error {
			_, err := c.executor.ListPrompts(ctx, &executorv1.ListPromptsRequest{Grant: grant})
			return err
		}, "", actResources, false},
		{"GetPrompt", actPrompt, countedPrompt, "{}", func(ctx context.Context, grant []byte, _ string) error {
			_, err := c.executor.GetPrompt(ctx, &executorv1.GetPromptRequest{Grant: grant, Name: countedPrompt})
			return err
		}, "another", actComplete, true},
		{"Complete", actComplete, countedPrompt, "{}", func(ctx context.Context, grant []byte, _ string) error {
			_, err := c.executor.Complete(ctx, &executorv1.CompleteRequest{
				Grant: grant, Request: &providerv1.CompleteRequest{Prompt: countedPrompt, Argument: countedArgument},
			})
			return err
		}, "another", actPrompt, true},
	}
}

// grant gets a grant as edges do.
func (c captured) grant(t *testing.T, key string, action authv1.Action, target, arguments string) (grant []byte, expires time.Time) {
	t.Helper()
	sum := sha256.Sum256([]byte(arguments))
	resp, err := c.auth.Authorize(t.Context(), &authv1.AuthorizeRequest{
		Credential: &authv1.Credential{Scheme: authv1.Scheme_SCHEME_BEARER, Token: key},
		Origin:     &authv1.Origin{Address: "192.0.2.7"}, Action: action, Target: target, ArgumentsSha256: sum[:],
	})
	if err != nil || len(resp.GetGrant()) == 0 {
		t.Fatalf("Authorize %v %s: got %v, %v; want a grant", action, target, resp, err)
	}
	return resp.GetGrant(), resp.GetGrantExpires().AsTime()
}

// resealed is a grant under another MAC key, and the id of a key.
func resealed(grant, key []byte, id string) []byte {
	body := grant[2+int(grant[1]) : len(grant)-sha256.Size]
	out := append([]byte{1, byte(len(id))}, id...)
	out = append(out, body...)
	mac := hmac.New(sha256.New, key)
	mac.Write(out)
	return mac.Sum(out)
}

// Whoever holds an edge gets nothing executed but what auth has granted, once
// where it destroys something. Each attempt is on record.
func TestACapturedEdge(t *testing.T) {
	t.Parallel()
	nats := oneServer(t)
	e := newEstate(t, `roles: {auth: {pepper_file: DIR/pepper.key, grant_key_file: DIR/grant.key}, executor: {grant_key_files: [DIR/grant.key]}}`)
	tools, provider, done := counterRoles(t)
	executors := e.start("executor", nats, []app.Role{executor.Role})
	auths := e.start("auth", nats, []app.Role{auth.Role})
	hasty := e.start("hasty", nats, []app.Role{auth.Role}, "roles.auth.grant_life=1s")
	records := e.start("audit", nats, []app.Role{audit.Role})
	counting := []*process{e.start("tools", nats, []app.Role{tools}), e.start("provider", nats, []app.Role{provider})}
	edge := captured{
		auth:     authv1.NewAuthServiceClient(e.conn("edge", "auth", e.await(auths, "auth"))),
		executor: executorv1.NewExecutorServiceClient(e.conn("edge", "executor", e.await(executors, "executor"))),
	}
	fleeting := edge
	fleeting.auth = authv1.NewAuthServiceClient(e.conn("edge", "auth", e.await(hasty, "auth")))
	keys := e.keys(e.await(auths, "auth"))
	_, admin := createKey(t, keys, "admin", "admin")
	_, other := createKey(t, keys, "other", "admin")
	stolen, thiefs := createKey(t, keys, "stolen", "admin")
	edge.await(t, admin)
	fleeting.await(t, admin)

	var last time.Time
	var hoard []byte // for ListResources
	type bad struct {
		name      string
		try       attempt
		grant     []byte
		arguments string
		rule      string // in the record
	}
	var bads []bad
	tries := edge.attempts()
	for _, a := range tries {
		good, _ := edge.grant(t, admin, a.action, a.target, a.arguments)
		theirs, _ := edge.grant(t, other, a.action, a.target, a.arguments)
		late, expires := fleeting.grant(t, admin, a.action, a.target, a.arguments)
		if last.Before(expires) {
			last = expires
		}
		hoarded, _ := edge.grant(t, thiefs, a.action, a.target, a.arguments)
		if a.action == actResources {
			hoard = hoarded
		}
		otherwise, _ := edge.grant(t, admin, a.otherwise, a.target, "{}")
		add := func(name string, grant []byte, rule string) {
			bads = append(bads, bad{name, a, grant, a.arguments, rule})
		}
		if a.action != actCall { // of a call it is not even a request
			add("none", nil, "malformed")
		}
		add("noise", bytes.Repeat([]byte("noise"), 20), "malformed")
		add("one of another action", otherwise, "for another call")
		if a.elsewhere != "" {
			elsewhere, _ := edge.grant(t, admin, a.action, a.elsewhere, a.arguments)
			add("one for another target", elsewhere, "for another call")
		}
		if a.action == actCall {
			bads = append(bads, bad{"one for other arguments", a, good, `{"customer_id":8}`, "for another call"})
			bads = append(bads, bad{"one for the arguments in other bytes", a, good, `{"customer_id": 7}`, "for another call"})
		}
		add("another principal's, made one's own", bytes.Replace(theirs, principalOf(t, theirs), principalOf(t, good), 1), "forged")
		add("one sealed with another key", resealed(good, []byte("key"), "deadbeef"), "unknown key")
		add("one sealed with another key under the name of the right one", resealed(good, []byte("key"), string(good[2:10])), "forged")
		add("one cut short", good[:len(good)-1], "forged")
		add("an expired one", late, "expired")
		add("one of a credential that was revoked", hoarded, "of a credential that was revoked since")
	}
	if _, err := keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: stolen}); err != nil {
		t.Fatal(err)
	}
	expired, cancel := context.WithDeadline(t.Context(), last)
	defer cancel()
	<-expired.Done()
	want := map[string]int{": grant: of a credential that was revoked since": 1}
	for { // until the executor has heard of the revocation
		if _, err := edge.executor.ListResources(t.Context(), &executorv1.ListResourcesRequest{Grant: hoard}); fault.Is(err, executorv1.Reason_REASON_GRANT) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range bads {
		err := b.try.do(t.Context(), b.grant, b.arguments)
		if status.Code(err) != codes.PermissionDenied || !fault.Is(err, executorv1.Reason_REASON_GRANT) {
			t.Errorf("%s with %s: got %v, want %v", b.try.name, b.name, err, codes.PermissionDenied)
		}
		want[b.try.target+": grant: "+b.rule]++
	}
	for _, a := range tries[:2] {
		if err := a.do(t.Context(), nil, a.arguments); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s without a grant: got %v, want %v", a.name, err, codes.InvalidArgument)
		}
	}
	goAround(t, e, stolen, map[string]string{
		"auth": e.await(auths, "auth"), "executor": e.await(executors, "executor"),
		counterRole: e.await(counting[0], counterRole), listerRole: e.await(counting[1], listerRole),
	})
	if done.Load() != 0 {
		t.Errorf("%d requests were executed, want none", done.Load())
	}

	// Before anything is read: after that this call would take an approval.
	once, _ := edge.grant(t, admin, actCall, tries[0].target, tries[0].arguments)

	// What auth has granted is done: what was refused before was not refused for
	// another reason.
	for _, a := range tries {
		good, _ := edge.grant(t, admin, a.action, a.target, a.arguments)
		done.Store(0)
		if err := a.do(t.Context(), good, a.arguments); err != nil || (done.Load() == 1) != a.counts {
			t.Errorf("%s with its grant: got %v, and %d executed", a.name, err, done.Load())
		}
	}
	const again = 20
	done.Store(0)
	var refused atomic.Int32
	var wg sync.WaitGroup
	for range again {
		wg.Go(func() {
			if err := tries[0].do(t.Context(), once, tries[0].arguments); fault.Is(err, executorv1.Reason_REASON_GRANT) {
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if done.Load() != 1 || refused.Load() != again-1 {
		t.Errorf("a destructive tool was called %d times with one grant, and %d calls were refused of %d", done.Load(), refused.Load(), again)
	}
	want[tries[0].target+": grant: used before"] += again - 1
	wantRecord(t, e, e.await(records, "audit"), want)
}

// await waits until auth knows a key and all that the counting services have.
func (c captured) await(t *testing.T, key string) {
	t.Helper()
	stream, err := c.executor.Watch(t.Context(), &executorv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for has := new(executorv1.WatchResponse); !has.GetHasResources() || !has.GetHasPrompts() || !has.GetHasCompletion(); {
		if has, err = stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	c.awaitTools(t, key)
}

// awaitTools waits until auth knows a key and the tools, as the executor does.
func (c captured) awaitTools(t *testing.T, key string) {
	t.Helper()
	sum := sha256.Sum256([]byte("{}"))
	for _, tool := range []string{"get_customer", "delete_customer_account"} {
		await(t, "auth knows the key and "+tool, func() bool {
			resp, err := c.auth.Authorize(t.Context(), &authv1.AuthorizeRequest{
				Credential: &authv1.Credential{Scheme: authv1.Scheme_SCHEME_BEARER, Token: key},
				Origin:     &authv1.Origin{Address: "192.0.2.7"}, Action: actCall, Target: tool, ArgumentsSha256: sum[:],
			})
			return err == nil && len(resp.GetGrant()) > 0
		})
		await(t, "the executor knows "+tool, func() bool {
			resp, err := c.executor.ListTools(t.Context(), &executorv1.ListToolsRequest{})
			return err == nil && slices.ContainsFunc(resp.GetTools(), func(o *executorv1.Tool) bool {
				return o.GetDefinition().GetName() == tool && o.GetAvailable()
			})
		})
	}
}

// principalOf is the id of whom a grant was given to.
func principalOf(t *testing.T, grant []byte) []byte {
	t.Helper()
	g := new(authv1.Grant)
	if err := proto.Unmarshal(grant[2+int(grant[1]):len(grant)-sha256.Size], g); err != nil {
		t.Fatal(err)
	}
	return []byte(g.GetPrincipal().GetId())
}

// goAround tries what the edge's certificate is not for: there is no other way to
// the tools, and none to keys and approvals.
func goAround(t *testing.T, e *estate, key string, at map[string]string) {
	t.Helper()
	ctx := t.Context()
	conn := func(role string) grpc.ClientConnInterface { return e.conn("edge", role, at[role]) }
	for name, err := range map[string]error{
		"a tool service": second(customersv1.NewCustomersServiceClient(conn(counterRole)).
			DeleteCustomerAccount(ctx, &customersv1.DeleteCustomerAccountRequest{CustomerId: 7})),
		"a provider": second(providerv1.NewProviderServiceClient(conn(listerRole)).
			ReadResource(ctx, &providerv1.ReadResourceRequest{Uri: countedURI})),
		"the keys": second(authv1.NewKeyServiceClient(conn("auth")).RevokeKey(ctx, &authv1.RevokeKeyRequest{Id: key})),
		"the approvals of definitions": second(executorv1.NewApprovalServiceClient(conn("executor")).
			ListDefinitions(ctx, &executorv1.ListDefinitionsRequest{})),
	} {
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("the edge asks %s: got %v, want %v", name, err, codes.PermissionDenied)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// wantRecord waits until the audit record tells of refused grants, and checks that
// it does so as often as wanted, by target and rule.
func wantRecord(t *testing.T, e *estate, address string, want map[string]int) {
	t.Helper()
	index := auditv1.NewAuditServiceClient(e.conn(operatorRole, "audit", address))
	total := 0
	for _, n := range want {
		total += n
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got map[string]int
	for n := 0; n < total && ctx.Err() == nil; {
		got, n = make(map[string]int), 0
		req := &auditv1.QueryRequest{Filter: &auditv1.Filter{Reasons: []auditv1.Reason{auditv1.Reason_REASON_GRANT_INVALID}}, PageSize: 1000}
		resp, err := index.Query(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range resp.GetEvents() {
			if d := event.GetDecision(); d.GetVerdict() == auditv1.Verdict_VERDICT_DENY && event.GetService() == "executor" {
				got[event.GetTarget()+": "+d.GetRule()]++
				n++
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the record of refused grants (-want +got):\n%s", diff)
	}
}
