//go:build cluster

package quota_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// programs is the folder of what tests build.
var programs string

// quotad builds the program once for all tests.
var quotad = sync.OnceValues(func() (string, error) {
	program := filepath.Join(programs, "quotad")
	out, err := exec.Command("go", "build", "-o", program, "./quotad").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build quotad: %w\n%s", err, out)
	}
	return program, nil
})

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		if err := serveQuotas(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var err error
	if programs, err = os.MkdirTemp("", "quotad"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(programs)
	os.Exit(code)
}

// node is a quotad process.
type node struct {
	quotav1.QuotaServiceClient
	cmd    *exec.Cmd
	admin  string
	exited chan struct{}
}

// nodes starts so many processes that count as one, each at one of the NATS URLs,
// or all at the only one.
func nodes(t *testing.T, rules string, count int, urls ...string) []*node {
	t.Helper()
	program, err := quotad()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := devca.Ensure(dir, "quota", "edge"); err != nil {
		t.Fatal(err)
	}
	var all []*node
	for i := range count {
		all = append(all, startNode(t, program, dir, i, rules, urls[i%len(urls)]))
	}
	for _, n := range all {
		await(t, "all to serve", func() bool { return n.ready() })
	}
	return all
}

func startNode(t *testing.T, program, dir string, i int, rules, url string) *node {
	t.Helper()
	config := fmt.Sprintf(`
state_dir: %[1]s/n%[2]d
node: n%[2]d
log: error
listen: {quota: "127.0.0.1:0"}
bus: {embedded: false, url: %[3]q}
tls: {ca: %[1]s/ca.crt, cert: "%[1]s/{role}.crt", key: "%[1]s/{role}.key"}
roles:
  quota:
%[4]s`, dir, i, url, "    "+strings.ReplaceAll(strings.TrimSpace(rules), "\n", "\n    "))
	file := filepath.Join(dir, fmt.Sprintf("n%d.yaml", i))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	tell, told, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tell.Close() }()
	n := &node{cmd: exec.Command(program, "-config", file, "-ready-fd", "3"), exited: make(chan struct{})}
	n.cmd.ExtraFiles = []*os.File{told}
	n.cmd.Stdout, n.cmd.Stderr = t.Output(), t.Output()
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = n.cmd.Start()
	_ = told.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(n.exited)
		_ = n.cmd.Wait() // those that a test kills say so
	}()
	t.Cleanup(func() {
		n.signal(t, syscall.SIGCONT)
		n.kill(t)
	})
	line, err := bufio.NewReader(tell).ReadBytes('\n')
	if err != nil {
		t.Fatalf("node %d did not become ready: %v", i, err)
	}
	var info struct {
		AdminURL  string            `json:"admin_url"`
		Addresses map[string]string `json:"addresses"`
	}
	if err := json.Unmarshal(line, &info); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	n.admin = info.AdminURL
	creds, err := devca.Files(dir).Client("edge", "quota")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(info.Addresses["quota"], nil, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	n.QuotaServiceClient = quotav1.NewQuotaServiceClient(conn)
	return n
}

// signal sends a signal to a process that may have ended.
func (n *node) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}

// kill ends the process as a crash does.
func (n *node) kill(t *testing.T) {
	t.Helper()
	n.signal(t, syscall.SIGKILL)
	<-n.exited
}

// get reads a page of the process; nothing if it does not say 200.
func (n *node) get(path string) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.admin+path, nil)
	if err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil
	}
	return body
}

func (n *node) ready() bool { return n.get("/readyz") != nil }

// metric reads one of the process's own; empty if there is none.
func (n *node) metric(name string) string {
	for line := range bytes.Lines(n.get("/metrics")) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok && (rest[0] == '{' || rest[0] == ' ') {
			return string(bytes.TrimSpace(rest[bytes.LastIndexByte(rest, ' '):]))
		}
	}
	return ""
}

// views is how often the members have changed so far.
func views(t *testing.T, n *node) (epoch int) {
	t.Helper()
	if _, err := fmt.Sscan(n.metric("sallyport_quota_cluster_epoch"), &epoch); err != nil {
		t.Fatal(err)
	}
	return epoch
}

// exceeded fails the test, which has lost one node on purpose. It says so if the
// members have changed more often than that explains: then a busy machine has let
// others lose their leases at the same time, against which nothing is promised.
func exceeded(t *testing.T, now, expected int, format string, args ...any) {
	t.Helper()
	if now > expected {
		t.Errorf("the members have changed %d times more than they should: is the machine too busy for this test?", now-expected)
	}
	t.Errorf(format, args...)
}

// awaitCopies waits until the heirs of all keys have everything.
func awaitCopies(t *testing.T, all ...*node) {
	t.Helper()
	for _, n := range all {
		await(t, "copies", func() bool { return n.metric("sallyport_quota_cluster_uncopied") == "0" })
	}
}

// spend asks for one, and reports whether it was admitted. That nobody could
// decide is a refusal too: a machine that is busy may let leases lapse.
func spend(t *testing.T, n *node, req *quotav1.CheckRequest) (allowed, decided bool) {
	t.Helper()
	res, err := n.Check(context.Background(), req)
	if err == nil {
		return res.GetAllowed(), true
	}
	// Over a node that has died the word is gRPC's, not ours.
	if fault.Is(err, quotav1.Reason_REASON_PEERS_LOST) || unavailable(err) {
		return false, false
	}
	t.Error(err)
	return false, false
}

// Nodes that dial one NATS server count as one without being told to.
func TestNodesOnOneServerCountAsOneByThemselves(t *testing.T) {
	all := nodes(t, "rules: [{id: per-ip, key: [ip], limit: 10/hour}]", 2, natsServer(t).URL())
	for key := range 20 {
		admitted := 0
		for decided := 0; decided < 20; {
			ok, known := spend(t, all[decided%2], address(key))
			if ok {
				admitted++
			}
			if known {
				decided++
			}
		}
		if admitted != 10 {
			t.Errorf("key %d: admitted %d of 10", key, admitted)
		}
	}
}
