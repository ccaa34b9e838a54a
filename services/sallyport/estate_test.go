package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// estate is a system that a test puts together. Its processes are within the
// test's own, but each has its own connection to NATS and its own folder, and they
// reach each other over mTLS alone.
type estate struct {
	t    *testing.T
	dir  string
	file string // the configuration that all have
	nats string // of an office
}

// grantKey and pepper are what all auth processes and executors share.
const grantKey, pepper = "grant key of the test, 32 bytes.", "pepper key of the test, 32 bytes"

// newEstate makes the keys and certificates of a system, and its configuration
// from the sections of the roles.
func newEstate(t *testing.T, roles string) *estate {
	t.Helper()
	e := &estate{t: t, dir: t.TempDir()}
	if err := devca.Ensure(e.path("certs"), append(roleNames(), operatorRole, counterRole, listerRole, officeRole)...); err != nil {
		t.Fatal(err)
	}
	e.write("grant.key", grantKey)
	e.write("pepper.key", pepper)
	e.write("edge.key", "key of the edges' states of test")
	e.file = e.path("config.yaml")
	e.write("config.yaml", fmt.Sprintf(`
admin: ""
drain: 1s
bus: {embedded: false}
tls: {ca: %[1]s/certs/ca.crt, cert: "%[1]s/certs/{role}.crt", key: "%[1]s/certs/{role}.key"}
%[2]s`, e.dir, strings.ReplaceAll(roles, "DIR", e.dir)))
	return e
}

func (e *estate) path(name string) string { return filepath.Join(e.dir, name) }

// write replaces a file at once, as an operator should.
func (e *estate) write(name, content string) {
	e.t.Helper()
	if err := os.WriteFile(e.path(name)+".new", []byte(content), 0o600); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Rename(e.path(name)+".new", e.path(name)); err != nil {
		e.t.Fatal(err)
	}
}

// process is one process of an estate.
type process struct {
	name  string
	ready chan app.Info
	ended chan error
	stop  context.CancelFunc
}

// start starts a process with some roles. Each of set overrides the configuration.
func (e *estate) start(name, nats string, roles []app.Role, set ...string) *process {
	e.t.Helper()
	given := []string{"node=" + name, "state_dir=" + e.path(name), "bus.url=" + nats}
	for _, r := range roles {
		if len(r.Allow) > 0 {
			given = append(given, "listen."+r.Name+"=127.0.0.1:0")
		}
	}
	cfg, err := app.Load(e.file, append(given, set...)...)
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &process{name: name, ready: make(chan app.Info, 1), ended: make(chan error, 1), stop: stop}
	log := slog.New(slog.NewTextHandler(e.t.Output(), &slog.HandlerOptions{Level: slog.LevelError})).With("node", name)
	go func() {
		p.ended <- app.Run(ctx, app.Options{Config: cfg, Log: log, Ready: func(i app.Info) { p.ready <- i }}, roles...)
	}()
	e.t.Cleanup(func() { e.end(p) })
	return p
}

// end ends a process.
func (e *estate) end(p *process) {
	e.t.Helper()
	p.stop()
	if err, running := <-p.ended; running && err != nil {
		e.t.Errorf("%s ended with %v", p.name, err)
	} else if running {
		close(p.ended)
	}
}

// await waits until a process is ready, and returns where a role of it is.
func (e *estate) await(p *process, role string) string {
	e.t.Helper()
	select {
	case i := <-p.ready:
		p.ready <- i // for the next who asks
		return i.Addresses[role]
	case err := <-p.ended:
		close(p.ended)
		e.t.Fatalf("%s ended with %v", p.name, err)
	}
	return ""
}

// conn returns a connection to a role with the certificate of another.
func (e *estate) conn(as, role, address string) grpc.ClientConnInterface {
	e.t.Helper()
	creds, err := devca.Files(e.path("certs")).Client(as, role)
	if err != nil {
		e.t.Fatal(err)
	}
	conn, err := rpc.Dial(address, nil, grpc.WithTransportCredentials(creds))
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// keys returns the key service of an auth process, as operators reach it.
func (e *estate) keys(address string) authv1.KeyServiceClient {
	e.t.Helper()
	return authv1.NewKeyServiceClient(e.conn(operatorRole, "auth", address))
}

// createKey makes a key of one role and returns its id and text.
func createKey(t *testing.T, keys authv1.KeyServiceClient, name, role string) (id, text string) {
	t.Helper()
	resp, err := keys.CreateKey(t.Context(), &authv1.CreateKeyRequest{Name: name, Roles: []string{role}, ExpiresIn: durationpb.New(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetKey().GetId(), resp.GetSecret()
}

// agent is an MCP client with one key, at one address.
type agent struct {
	client *http.Client
	key    string
	from   string // is believed: the edges of an estate trust their callers
}

// call calls a tool at an edge, and reports whether that was done.
func (a agent) call(ctx context.Context, edge, tool, arguments string) (done bool, answer string, err error) {
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments + `,` + clientMeta + `}}`
	status, answer, err := a.post(ctx, edge, body, "tools/call", tool)
	return status == http.StatusOK && strings.Contains(answer, `"result"`) && !strings.Contains(answer, `"isError":true`), answer, err
}

// discover asks an edge for what needs no more than a good key.
func (a agent) discover(ctx context.Context, edge string) (done bool, answer string, err error) {
	status, answer, err := a.post(ctx, edge, `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+clientMeta+`}}`, "server/discover", "")
	return status == http.StatusOK && strings.Contains(answer, `"result"`), answer, err
}

const clientMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
	`"io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`

func (a agent) post(ctx context.Context, edge, body, method, name string) (status int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+edge+"/mcp", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + a.key,
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name, "X-Forwarded-For": a.from,
	} {
		if v != "" {
			req.Header.Set(k, v)
		}
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// await waits for what others do in their own time: processes on a real network
// cannot run under a fake clock.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	awaitLonger(t, time.Minute, what, done)
}

// awaitLonger is await for what may take more than a minute on a busy machine.
func awaitLonger(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// connections returns a client that keeps as many connections as it uses.
func connections(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
