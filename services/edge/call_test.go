package edge_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

func TestWhatPeersAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arguments := `{ "text":"secret\u0021", "list":[1,2] }`
	w.send(t, request{
		params: `"name":"echo","arguments":` + arguments,
		meta:   `"dev.sallyport/context":"task:7","dev.sallyport/hops":2`, client: "agent",
	})

	sum := sha256.Sum256([]byte(arguments))
	wantAuth := &authv1.AuthorizeRequest{
		Credential: &authv1.Credential{Scheme: authv1.Scheme_SCHEME_BEARER, Token: "good"},
		Origin: &authv1.Origin{
			Address: "127.0.0.1", Client: "agent/1", ProtocolVersion: "2026-07-28",
			ContextId: "task:7", ContextSource: authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT, Hops: 2,
		},
		Action: authv1.Action_ACTION_TOOLS_CALL, Target: "echo",
		ArgumentsSha256: sum[:], ArgumentsShape: "{text: string(12), list: array(2)}",
	}
	if diff := cmp.Diff(wantAuth, w.auth.last(), protocmp.Transform()); diff != "" {
		t.Errorf("Authorize (-want +got):\n%s", diff)
	}
	wantQuota := map[string]string{
		"ip": "127.0.0.1", "key": "7Xk2abcdef", "user": "key:anna", "owner": "team-a", "tenant": "default", "role": "analyst",
		"tool": "echo", "action": "tools/call", "context": "task:7", "context_source": "explicit", "client": "agent/1",
		"call": "echo:" + base64.RawURLEncoding.EncodeToString(sum[:16]), "hops": "2",
	}
	if diff := cmp.Diff(wantQuota, w.quota.last().GetSubject().GetAttributes()); diff != "" {
		t.Errorf("Check (-want +got):\n%s", diff)
	}
	if got := w.quota.last().GetCost(); got != 1 {
		t.Errorf("Check: got cost %d, want 1", got)
	}
	wantCall := &executorv1.CallRequest{
		Grant: []byte("grant for echo"), Tool: "echo", Arguments: []byte(arguments),
		ArgumentsShape: "{text: string(12), list: array(2)}",
		Round:          &providerv1.Round{ClientCapabilities: []byte("{}")},
	}
	if diff := cmp.Diff(wantCall, w.executor.last(), protocmp.Transform()); diff != "" {
		t.Errorf("Call (-want +got):\n%s", diff)
	}
}

func TestWithoutArgumentsAnEmptyObjectIsCalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.send(t, request{params: `"name":"echo"`})
	sum := sha256.Sum256([]byte("{}"))
	if got := w.auth.last().GetArgumentsSha256(); string(got) != string(sum[:]) {
		t.Errorf("Authorize: got hash %x, want that of {}", got)
	}
	if got := string(w.executor.last().GetArguments()); got != "{}" {
		t.Errorf("Call: got arguments %q, want {}", got)
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	const trace = `"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"`
	w := newWorld(t)
	c := w.initialize(t, `{}`)
	session := map[string]string{"Mcp-Session-Id": c.session}
	tests := []struct {
		name       string
		request    request
		want       string
		wantSource string
	}{
		{"what the client says comes first", request{meta: `"dev.sallyport/context":"a",` + trace}, "a", "explicit"},
		{"then the trace", request{meta: trace}, "0af7651916cd43dd8448eb211c80319c", "trace"},
		{"a malformed trace is none", request{meta: `"traceparent":"00-0af7"`}, "key:anna/tests", "principal"},
		{"then the legacy session", request{version: "2025-11-25", headers: session}, c.id(t), "session"},
		{"a trace comes before a session", request{version: "2025-11-25", meta: trace, headers: session}, "0af7651916cd43dd8448eb211c80319c", "trace"},
		{"the modern era has no session", request{headers: session}, "key:anna/tests", "principal"},
		{"the modern era does not look at it", request{headers: map[string]string{"Mcp-Session-Id": "a b"}}, "key:anna/tests", "principal"},
		{"the legacy era without a session", request{version: "2025-11-25"}, "key:anna/", "principal"},
		{"a client name of any length", request{client: strings.Repeat("n", 300)}, "sha256:", "principal"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if a := w.send(t, tt.request); a.status != http.StatusOK {
				t.Fatalf("got %d: %s", a.status, a.body)
			}
			attr := w.quota.last().GetSubject().GetAttributes()
			if got := attr["context"]; got != tt.want && (tt.want != "sha256:" || len(got) > 256) {
				t.Errorf("got context %q, want %q", got, tt.want)
			}
			if got := attr["context_source"]; got != tt.wantSource {
				t.Errorf("got source %q, want %q", got, tt.wantSource)
			}
			if got := w.auth.last().GetOrigin().GetContextId(); got != attr["context"] {
				t.Errorf("auth was told %q, quota %q", got, attr["context"])
			}
		})
	}
}

func TestRefusedCallsDoNotReachTheExecutor(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"delete_customer_account", "summarize_logs", "needs_approval", "no_such", "out_of_steps"} {
		w := newWorld(t)
		w.send(t, request{params: `"name":"` + tool + `"`})
		if n := len(w.executor.called); n != 0 {
			t.Errorf("%s: the executor was called %d times", tool, n)
		}
	}
}

// A client that goes away has cancelled its call in the modern era, and only
// there.
func TestCancellation(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.executor.begun, w.executor.ended = make(chan struct{}, 1), make(chan error, 1)
			w.executor.release = make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			r := request{params: `"name":"waits"`, version: version}.http(t, w.url).WithContext(ctx)
			failed := make(chan error, 1)
			go func() {
				resp, err := http.DefaultClient.Do(r)
				if err == nil {
					_ = resp.Body.Close()
				}
				failed <- err
			}()
			<-w.executor.begun
			cancel()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Fatalf("got error %v, want a cancelled request", err)
			}
			if version == "2026-07-28" {
				<-w.executor.ended
				return
			}
			// The legacy call goes on: another one on the same edge is served while
			// it does.
			w.send(t, request{})
			select {
			case err := <-w.executor.ended:
				t.Errorf("the call has ended: %v", err)
			default:
			}
			close(w.executor.release)
			if err := <-w.executor.ended; err != nil {
				t.Errorf("the call was cancelled: %v", err)
			}
		})
	}
}

func TestListShowsWhatMayBeCalledPageByPage(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		w := newWorld(t)
		var got []string
		for params := ""; ; {
			r := w.send(t, request{method: "tools/list", params: params, version: version}).decode(t)
			for _, tool := range r.Result.Tools {
				got = append(got, tool.Name)
			}
			if r.Result.Next == "" {
				break
			}
			params = `"cursor":"` + r.Result.Next + `"`
		}
		want := []string{"add_numbers", "echo", "mirrored", "send_mail", "summarize_logs"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", version, diff)
		}
		attr := w.quota.last().GetSubject().GetAttributes()
		if _, ok := attr["tool"]; ok || attr["action"] != "tools/list" {
			t.Errorf("Check: got %v", attr)
		}
	}
}

func TestListIsRefusedWhenTheExecutorIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.executor.down.Store(true)
	if a := w.send(t, request{method: "tools/list"}); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
		t.Errorf("got %d %s, want 503 with Retry-After", a.status, a.body)
	}
}
