package mcpbridge_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge"
)

func process(mode string) mcpbridge.Upstream {
	return mcpbridge.Upstream{Name: "up", Command: []string{os.Args[0]}, Env: map[string]string{childMode: mode}}
}

func TestProcessesSeeOnlyWhatTheyAreGiven(t *testing.T) {
	t.Setenv("SOMETHING_SECRET", "x")
	t.Setenv("WANTED", "yes")
	secret := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u := process("quiet")
	u.Inherit = []string{"WANTED", "NOT_SET_ANYWHERE"}
	u.EnvFiles = map[string]string{"API_KEY": secret}
	c := start(t, quick(u))
	up(t, c)
	got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_environment"})
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Split(text(got.result), "\n")
	slices.Sort(env)
	if want := []string{"API_KEY=s3cret", childMode + "=quiet", "WANTED=yes"}; !slices.Equal(env, want) {
		t.Errorf("got environment %q, want %q", env, want)
	}
}

func TestProcessesThatDieAreStartedAgain(t *testing.T) {
	t.Parallel()
	c := start(t, quick(process("noisy")))
	up(t, c)
	pid := func() int {
		t.Helper()
		got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_pid"})
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(text(got.result))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	_, err := call(t, c, &providerv1.CallToolRequest{Name: "up_die"})
	if !fault.Is(err, providerv1.Reason_REASON_UPSTREAM) || status.Code(err) != codes.Unavailable {
		t.Errorf("a call in flight: got error %v, want REASON_UPSTREAM", err)
	}
	first := pid() // waits for the next process
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The kill may not have been noticed, so that this call is lost with it.
	got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_pid"})
	if err == nil && text(got.result) == strconv.Itoa(first) {
		t.Errorf("a process that was killed has answered")
	}
	if second := pid(); second == first {
		t.Errorf("got the same process %d", first)
	}
}

func TestProcessesEndWithAllTheyHaveStarted(t *testing.T) {
	t.Parallel()
	c, stop := startStoppable(t, quick(process("quiet")))
	up(t, c)
	got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_spawn"})
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(text(got.result))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(grandchild, 0); err != nil {
		t.Fatalf("the grandchild does not run: %v", err)
	}
	stop()
	deadline := time.After(10 * time.Second)
	for running(grandchild) {
		select {
		case <-time.After(10 * time.Millisecond): // whoever reaps it may take a moment
		case <-deadline:
			t.Fatal("the grandchild still runs")
		}
	}
}

// running tells a process from one that has ended and waits to be reaped.
func running(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !os.IsNotExist(err)
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(after, "Z")
}

func TestProcessesThatFloodAreEnded(t *testing.T) {
	t.Parallel()
	c := start(t, quick(process("quiet")))
	up(t, c)
	_, err := call(t, c, &providerv1.CallToolRequest{Name: "up_flood"})
	if !fault.Is(err, providerv1.Reason_REASON_UPSTREAM) {
		t.Errorf("got error %v, want REASON_UPSTREAM", err)
	}
	got, err := call(t, c, &providerv1.CallToolRequest{Name: "up_echo", Arguments: []byte(`{}`)})
	if err != nil || text(got.result) != "{}" {
		t.Errorf("afterwards: got %v, %v, want it to work again", got.result, err)
	}
}
