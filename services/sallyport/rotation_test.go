package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/freeport"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// roomy are limits that nobody reaches, and an edge that believes its callers.
const roomy = `
  edge: {listen: "127.0.0.1:0", trusted_proxies: [127.0.0.1], state_key_files: [DIR/edge.key]}
  quota: {rules: [{id: all, key: [key], limit: 1000000000/minute}]}
`

// load calls tools through an edge all the time.
type load struct {
	done       atomic.Int64
	failed     atomic.Bool
	restarting atomic.Bool
	missed     atomic.Int64 // what was just then being restarted
	stop       func()
}

// keepCalling starts some callers, of which half destroy something and half read: not
// with one key, for after that it would take approvals to destroy. A call that is
// not done is an error, but while processes are restarted: one that has just
// started may be called before it is ready, which is no matter of its grant.
func keepCalling(t *testing.T, callers int, reads, destroys agent, edge string) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := new(load)
	var wg sync.WaitGroup
	l.stop = sync.OnceFunc(func() { stop(); wg.Wait() })
	t.Cleanup(l.stop)
	for i := range callers {
		tool, a := "get_customer", reads
		if i%2 > 0 {
			tool, a = "delete_customer_account", destroys
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				done, answer, err := a.call(ctx, edge, tool, `{"customer_id":7}`)
				switch {
				case done:
					l.done.Add(1)
				case ctx.Err() != nil:
				case l.restarting.Load() && err == nil && !strings.Contains(answer, "did not hold"):
					l.missed.Add(1)
				default:
					l.failed.Store(true)
					t.Errorf("%s: got %v, %s", tool, err, answer)
				}
			}
		})
	}
	return l
}

// more waits for some more calls.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	until := l.done.Load() + n
	await(t, "more calls", func() bool { return l.done.Load() >= until })
	if l.failed.Load() {
		t.FailNow()
	}
}

// signsWith returns the id of the key that an auth process signs grants with, or
// nothing if it does not answer.
func signsWith(t *testing.T, c authv1.AuthServiceClient, key string) string {
	t.Helper()
	sum := sha256.Sum256([]byte("{}"))
	resp, err := c.Authorize(t.Context(), &authv1.AuthorizeRequest{
		Credential: &authv1.Credential{Scheme: authv1.Scheme_SCHEME_BEARER, Token: key},
		Origin:     &authv1.Origin{Address: "192.0.2.7"}, Action: actPrompts, ArgumentsSha256: sum[:],
	})
	if err != nil || len(resp.GetGrant()) < 10 {
		return ""
	}
	return string(resp.GetGrant()[2:10])
}

// The key of grants is replaced under load, with two of each process, and no call
// is refused: by files alone, and by restarts.
func TestTheGrantKeyIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	const second, third = "another grant key, 32 bytes long", "one more grant key, 32 bytes too"
	nats := oneServer(t)
	e := newEstate(t, `
roles:
  auth: {pepper_file: DIR/pepper.key, grant_key_file: DIR/auth-grant.key}
  executor: {grant_key_files: [DIR/grant.key, DIR/grant-next.key]}
`+roomy)
	e.write("auth-grant.key", grantKey)
	tools, _, _ := counterRoles(t)
	e.start("tools", nats, []app.Role{tools})
	quotas := e.start("quota", nats, []app.Role{quota.Role})
	var auths, executors [2]string // addresses, which replicas keep
	var processes [2]map[string]*process
	start := func(i int, role app.Role, address string, set ...string) {
		name := fmt.Sprintf("%s-%d", role.Name, i+1)
		processes[i][role.Name] = e.start(name, nats, []app.Role{role}, append(set, "listen."+role.Name+"="+address)...)
	}
	for i := range auths {
		processes[i] = make(map[string]*process)
		auths[i], executors[i] = freeport.Address(t), freeport.Address(t)
		start(i, auth.Role, auths[i])
		start(i, executor.Role, executors[i])
	}
	for i := range auths {
		e.await(processes[i]["auth"], "auth")
		e.await(processes[i]["executor"], "executor")
	}
	_, key := createKey(t, e.keys(auths[0]), "agent", "admin")
	var clients [2]authv1.AuthServiceClient
	for i := range clients {
		clients[i] = authv1.NewAuthServiceClient(e.conn("edge", "auth", auths[i]))
		captured{clients[i], executorv1.NewExecutorServiceClient(e.conn("edge", "executor", executors[i]))}.awaitTools(t, key)
	}
	edges := e.start("edge", nats, []app.Role{edge.Role}, "peers.quota="+e.await(quotas, "quota"),
		"peers.auth="+strings.Join(auths[:], ","), "peers.executor="+strings.Join(executors[:], ","))
	at := e.await(edges, "edge")
	signed := func(with string) {
		t.Helper()
		for i := range clients {
			await(t, "auth signs with the other key", func() bool { return signsWith(t, clients[i], key) == secret.NewKey([]byte(with)).ID() })
		}
	}
	signed(grantKey)
	_, reader := createKey(t, e.keys(auths[0]), "reader", "admin")
	calls := keepCalling(t, 4, agent{connections(t), reader, "192.0.2.7"}, agent{connections(t), key, "192.0.2.7"}, at)
	calls.more(t, 50)

	// By files: the executors get the new key, then auth does, then the executors
	// lose the old one.
	e.write("grant-next.key", second)
	calls.more(t, 1)
	e.write("auth-grant.key", second)
	signed(second)
	calls.more(t, 50)
	if err := os.Rename(e.path("grant-next.key"), e.path("grant.key")); err != nil {
		t.Fatal(err)
	}
	calls.more(t, 50)

	// By restarts, one after the other: the same order, and no file is changed that
	// a running process reads.
	restart := func(i int, role app.Role, address string, set string) {
		t.Helper()
		e.end(processes[i][role.Name])
		start(i, role, address, set)
		e.await(processes[i][role.Name], role.Name)
		calls.more(t, 50)
	}
	e.write("third.key", third)
	calls.restarting.Store(true)
	for i := range executors {
		restart(i, executor.Role, executors[i], fmt.Sprintf("roles.executor.grant_key_files=[%s, %s]", e.path("grant.key"), e.path("third.key")))
	}
	for i := range auths {
		restart(i, auth.Role, auths[i], "roles.auth.grant_key_file="+e.path("third.key"))
	}
	signed(third)
	for i := range executors {
		restart(i, executor.Role, executors[i], fmt.Sprintf("roles.executor.grant_key_files=[%s]", e.path("third.key")))
	}
	calls.stop()
	t.Logf("%d calls, none refused for its grant; %d met a process that was starting", calls.done.Load(), calls.missed.Load())
}
