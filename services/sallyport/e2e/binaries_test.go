//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-mcp/sallyport/pkg/freeport"
)

// binaries are the commands of the roles, as deploy/Dockerfile builds them.
var binaries = map[string]string{
	"edge": "edge/edged", "auth": "auth/authd", "quota": "quota/quotad", "executor": "executor/executord", "audit": "audit/auditd",
	"basics": "tools/basics/basicsd", "sqlquery": "tools/sqlquery/sqlqueryd", "customers": "tools/customers/customersd", "logs": "tools/logs/logsd",
}

// TestBinaries runs what docker-compose.yml runs, without containers: each
// role's own binary, all with deploy/config/cluster.yaml (with loopback for the
// names of containers), certificates and secrets from `sallyport bootstrap`, and
// a NATS server.
func TestBinaries(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := []string{"build", "-o", dir + "/"}
	for _, path := range binaries {
		args = append(args, "github.com/sallyport-mcp/sallyport/services/"+path)
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	tool := program
	identity := filepath.Join(dir, "identity")
	output(ctx, t, tool, "bootstrap", identity)

	natsPort, edgePort := freeport.Port(t), freeport.Port(t)
	config := loopback(t, dir, identity, natsPort, edgePort)
	spawn(t, tool, "run", "nats", "-config", config, "-set", "bus.embedded=true", "-set", "bus.url=",
		"-set", "bus.listen=127.0.0.1:"+natsPort, "-set", "bus.dir="+dir+"/nats", "-set", "admin=127.0.0.1:"+freeport.Port(t))
	admins := make(map[string]string)
	for role, path := range binaries { // in no particular order
		admins[role] = freeport.Port(t)
		spawn(t, filepath.Join(dir, filepath.Base(path)), "-config", config, "-set", "node="+role, "-set", "admin=127.0.0.1:"+admins[role])
	}
	for role, path := range binaries {
		until(ctx, t, role+" is ready", func() error {
			out, err := exec.CommandContext(ctx, filepath.Join(dir, filepath.Base(path)), "-probe", "http://127.0.0.1:"+admins[role]+"/readyz").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	var key struct{ Key string }
	if err := json.Unmarshal([]byte(output(ctx, t, tool, "--config", config, "key", "create", "e2e", "--role", "admin", "-o", "json")), &key); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, []byte(key.Key), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "http://127.0.0.1:" + edgePort + "/mcp"
	for _, call := range [][]string{
		{"echo", "text=hello"},
		{"add_numbers", "a=1", "b=2"},
		{"delete_customer_account", "customer_id=1"}, // after the others it would need an approval
		{"run_sql_query", "query=SELECT count(*) FROM orders"},
		{"get_customer", "customer_id=2"},
		{"summarize_logs"},
	} {
		until(ctx, t, call[0], func() error { // a tool may join after its process is ready
			out, err := exec.CommandContext(ctx, tool, append([]string{"call", "--url", url, "--key-file", file}, call...)...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	until(ctx, t, "the record", func() error {
		out := output(ctx, t, tool, "--config", config, "audit", "tail", "--tool", "delete_customer_account")
		for _, want := range []string{"ALLOW", "INTENT", "OK"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("no %s in\n%s", want, out)
			}
		}
		return nil
	})
	if out := output(ctx, t, tool, "--config", config, "tool", "list"); !strings.Contains(out, "delete_customer_account") {
		t.Errorf("tool list: %s", out)
	}
}

// loopback writes the cluster's configuration with addresses of this machine.
func loopback(t *testing.T, dir, identity, nats, edge string) string {
	t.Helper()
	b, err := os.ReadFile("../../../deploy/config/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(string(b), "/identity/", identity+"/")), &c); err != nil {
		t.Fatal(err)
	}
	listen, peers, advertise, roles := c["listen"].(map[string]any), c["peers"].(map[string]any), c["advertise"].(map[string]any), c["roles"].(map[string]any)
	for role := range listen {
		address := "127.0.0.1:" + freeport.Port(t)
		listen[role] = address
		if peers[role] != nil {
			peers[role] = address
		}
		if advertise[role] != nil {
			advertise[role] = address
		}
	}
	c["state_dir"] = filepath.Join(dir, "state")
	c["bus"].(map[string]any)["url"] = "nats://127.0.0.1:" + nats
	roles["edge"].(map[string]any)["listen"] = "127.0.0.1:" + edge
	delete(roles, "sqlquery") // PostgreSQL, which is not here: they have SQLite instead
	delete(roles, "customers")
	if b, err = yaml.Marshal(c); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cluster.yaml")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// spawn starts a program and stops it when the test ends; it must end well.
func spawn(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	stdin, w, err := os.Pipe() // `run` ends with its standard input
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", filepath.Base(program), err, log.String())
		}
		_ = stdin.Close()
		_ = w.Close()
	})
	return cmd
}

func output(ctx context.Context, t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, program, args...)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", filepath.Base(program), args, err, errOut.String())
	}
	return string(out)
}

// until tries until there is no error.
func until(ctx context.Context, t *testing.T, what string, try func() error) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}
