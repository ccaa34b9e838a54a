package edge_test

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// TestRefusals is the table of answers: what is told, in both eras, and what the
// edge puts on record. What a peer has recorded the edge does not record again.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const none = auditv1.Reason_REASON_UNSPECIFIED
	tests := []struct {
		name    string
		request request

		modern, legacy int // HTTP status; 0 where the case is not of that era
		code           int // JSON-RPC; 0 for a tool result
		reason         string
		recorded       auditv1.Reason
	}{
		{
			"a bad Host",
			request{headers: map[string]string{"Host": "evil.example.com"}},
			403, 403, -31403, "ORIGIN_REFUSED", auditv1.Reason_REASON_ORIGIN_REFUSED,
		}, {
			"a bad Origin",
			request{headers: map[string]string{"Origin": "http://evil.example.com"}},
			403, 403, -31403, "ORIGIN_REFUSED", auditv1.Reason_REASON_ORIGIN_REFUSED,
		}, {
			"no credential",
			request{headers: map[string]string{"Authorization": ""}},
			401, 401, -31401, "UNAUTHENTICATED", auditv1.Reason_REASON_UNAUTHENTICATED,
		}, {
			"a bad credential",
			request{token: "bad"},
			401, 401, -31401, "UNAUTHENTICATED", none,
		}, {
			"a credential that is revoked now",
			request{token: "good-until-called"},
			401, 401, -31401, "UNAUTHENTICATED", none,
		}, {
			"a bad credential after too many",
			request{token: "bad-too-often"},
			429, 429, -31029, "TOO_MANY_FAILURES", none,
		}, {
			"a credential that is revoked now, after too many",
			request{token: "good-until-called-too-often"},
			429, 429, -31029, "TOO_MANY_FAILURES", none,
		}, {
			"a list, with a credential that is revoked now",
			request{token: "good-until-called", method: "tools/list", params: `"_":0`},
			401, 401, -31401, "UNAUTHENTICATED", none,
		}, {
			"a list, with a credential that is revoked now, after too many",
			request{token: "good-until-called-too-often", method: "tools/list", params: `"_":0`},
			429, 429, -31029, "TOO_MANY_FAILURES", none,
		}, {
			"a list of resources, with a credential that is revoked now, after too many",
			request{token: "good-until-called-too-often", method: "resources/list", params: `"_":0`},
			429, 429, -31029, "TOO_MANY_FAILURES", none,
		}, {
			"a scope too small",
			request{params: `"name":"needs_scope"`},
			403, 403, -31403, "INSUFFICIENT_SCOPE", none,
		}, {
			"not JSON",
			request{body: `{`},
			400, 400, -32700, "MALFORMED_REQUEST", auditv1.Reason_REASON_MALFORMED_REQUEST,
		}, {
			"a batch",
			request{body: `[]`},
			400, 400, -32600, "MALFORMED_REQUEST", auditv1.Reason_REASON_MALFORMED_REQUEST,
		}, {
			"id null",
			request{body: `{"jsonrpc":"2.0","id":null,"method":"ping"}`},
			400, 400, -32600, "MALFORMED_REQUEST", auditv1.Reason_REASON_MALFORMED_REQUEST,
		}, {
			"no _meta",
			request{body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, method: "tools/list"},
			400, 0, -32602, "INVALID_PARAMS", auditv1.Reason_REASON_INVALID_PARAMS,
		}, {
			"a header that differs",
			request{headers: map[string]string{"Mcp-Name": "other"}},
			400, 0, -32020, "HEADER_MISMATCH", auditv1.Reason_REASON_HEADER_MISMATCH,
		}, {
			"a version that is not served",
			request{version: "2024-11-05", method: "tools/list"},
			400, 0, -32022, "UNSUPPORTED_VERSION", auditv1.Reason_REASON_UNSUPPORTED_VERSION,
		}, {
			"an unknown method",
			request{method: "no/such"},
			404, 200, -32601, "METHOD_UNKNOWN", auditv1.Reason_REASON_METHOD_UNKNOWN,
		}, {
			"an unknown tool",
			request{params: `"name":"no_such"`},
			400, 200, -32602, "TOOL_UNKNOWN", none,
		}, {
			"a name no tool can have",
			request{params: `"name":"no such"`},
			400, 200, -32602, "TOOL_UNKNOWN", auditv1.Reason_REASON_TOOL_UNKNOWN,
		}, {
			"an invalid cursor",
			request{method: "tools/list", params: `"cursor":"="`},
			400, 200, -32602, "INVALID_PARAMS", auditv1.Reason_REASON_INVALID_PARAMS,
		}, {
			"arguments that break the schema",
			request{params: `"name":"bad_arguments"`},
			200, 200, 0, "INVALID_ARGUMENTS", none,
		}, {
			"a policy",
			request{params: `"name":"delete_customer_account"`},
			200, 200, 0, "POLICY_DENIED", none,
		}, {
			"the quota of a tool",
			request{params: `"name":"summarize_logs"`},
			200, 200, 0, "QUOTA_EXCEEDED", auditv1.Reason_REASON_QUOTA_EXCEEDED,
		}, {
			"a step budget",
			request{params: `"name":"out_of_steps"`},
			200, 200, 0, "STEP_BUDGET_EXCEEDED", auditv1.Reason_REASON_STEP_BUDGET_EXCEEDED,
		}, {
			"a flood",
			request{method: "tools/list", client: "flooder"},
			429, 0, -31029, "QUOTA_EXCEEDED", auditv1.Reason_REASON_QUOTA_EXCEEDED,
		}, {
			"a slow tool",
			request{params: `"name":"slow"`},
			200, 200, 0, "TOOL_TIMEOUT", none,
		}, {
			"the executor away",
			request{params: `"name":"executor_down"`},
			200, 200, 0, "DEPENDENCY_UNAVAILABLE", auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE,
		}, {
			"auth away",
			request{token: "auth-down"},
			503, 503, -31503, "DEPENDENCY_UNAVAILABLE", auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE,
		}, {
			"auth away when it matters most",
			request{token: "good-but-authorize-down"},
			503, 503, -31503, "DEPENDENCY_UNAVAILABLE", auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE,
		}, {
			"quota away",
			request{client: "quota-down"},
			503, 0, -31503, "DEPENDENCY_UNAVAILABLE", auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE,
		}, {
			"a bug of ours",
			request{params: `"name":"executor_broken"`},
			500, 200, -32603, "INTERNAL", auditv1.Reason_REASON_INTERNAL,
		}, {
			"a body that is too large",
			request{body: strings.Repeat(" ", 256<<10+1)},
			413, 413, -31413, "PAYLOAD_TOO_LARGE", auditv1.Reason_REASON_PAYLOAD_TOO_LARGE,
		},
	}
	for _, tt := range tests {
		for version, status := range map[string]int{or(tt.request.version, "2026-07-28"): tt.modern, "2025-11-25": tt.legacy} {
			if status == 0 {
				continue
			}
			t.Run(tt.name+", "+version, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				q := tt.request
				q.version = version
				r := q.http(t, w.url)
				if host := q.headers["Host"]; host != "" {
					r.Host = host
				}
				a := do(t, r)
				if a.status != status {
					t.Errorf("got status %d, want %d: %s", a.status, status, a.body)
				}
				if got := a.decode(t).Error.Code; got != tt.code {
					t.Errorf("got code %d, want %d: %s", got, tt.code, a.body)
				}
				if got := a.reason(t); got != tt.reason {
					t.Errorf("got reason %q, want %q", got, tt.reason)
				}
				checkRecord(t, w, a, tt.recorded)
			})
		}
	}
}

// checkRecord checks that the edge recorded just what it should, under the id
// that is in the answer.
func checkRecord(t *testing.T, w *world, a answer, want auditv1.Reason) {
	t.Helper()
	var got []auditv1.Reason
	for _, e := range w.audit.take() {
		reason := e.GetDecision().GetReason()
		if o := e.GetOutcome(); o != nil {
			reason = o.GetReason()
		} else if e.GetDecision().GetVerdict() != auditv1.Verdict_VERDICT_DENY {
			t.Errorf("recorded %v, want a denial", e)
		}
		got = append(got, reason)
		if id := a.header.Get("Sallyport-Decision-Id"); id == "" || id != e.GetDecisionId() {
			t.Errorf("recorded decision %q, but told %q", e.GetDecisionId(), id)
		}
		if e.GetActor().GetAddress() != "127.0.0.1" {
			t.Errorf("recorded address %q", e.GetActor().GetAddress())
		}
	}
	var wanted []auditv1.Reason
	if want != auditv1.Reason_REASON_UNSPECIFIED {
		wanted = []auditv1.Reason{want}
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
}

func TestARefusalIsToldEvenIfItCannotBeRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.audit.full.Store(true)
	if a := w.send(t, request{method: "no/such"}); a.status != http.StatusNotFound {
		t.Errorf("got status %d, want 404", a.status)
	}
}

// Nothing that a caller sends comes back in an error, but the id and a version
// that looks like one.
func TestErrorsRepeatNothing(t *testing.T) {
	t.Parallel()
	secret := make([]byte, 18)
	_, _ = rand.Read(secret) // never fails
	canary := base64.RawURLEncoding.EncodeToString(secret)
	w := newWorld(t)
	tests := []request{
		{method: canary},
		{params: `"name":"` + canary + `"`},
		{params: `"name":"` + canary + ` "`},
		{params: `"name":"echo","arguments":"` + canary + `"`},
		{params: `"name":"bad_arguments","arguments":{"` + canary + `":"` + canary + `"}`},
		{params: `"name":"executor_broken","arguments":{"a":"` + canary + `"}`},
		{params: `"name":"delete_customer_account","arguments":{"a":"` + canary + `"}`},
		{params: `"name":"summarize_logs"`, client: canary},
		{method: "tools/list", params: `"cursor":"` + canary + `"`},
		{method: "tools/list", meta: `"dev.sallyport/context":"` + canary + ` "`},
		{method: "tools/list", meta: `"dev.sallyport/hops":"` + canary + `"`},
		{method: "tools/list", meta: `"traceparent":"` + canary + `"`, client: "flooder"},
		{method: "prompts/get", params: `"name":"unknown` + canary + `"`, version: "2025-11-25"},
		{method: "prompts/get", params: `"name":"greet","arguments":{"` + canary + `":7}`, version: "2025-11-25"},
		{method: "resources/read", params: `"uri":"` + canary + `"`, version: "2025-11-25"},
		{method: "resources/read", params: `"uri":"test://denied/` + canary + `"`, version: "2025-11-25"},
		{method: "resources/list", params: `"cursor":"` + canary + `"`},
		{method: "completion/complete", params: `"ref":{"type":"` + canary + `"}`},
		{method: "completion/complete", params: `"ref":{"type":"ref/prompt","name":"unknown"},"argument":{"name":"` + canary + `","value":"` + canary + `"}`},
		{params: `"name":"echo","requestState":"` + canary + `"`},
		{params: `"name":"echo","inputResponses":"` + canary + `"`},
		{meta: `"io.modelcontextprotocol/logLevel":"` + canary + `"`},
		{meta: `"progressToken":{"` + canary + `":1}`},
		{version: canary},
		{version: "2025-11-25", method: canary},
		{token: canary},
		{token: "auth-down", client: canary},
		{headers: map[string]string{"X-Api-Key": canary}},
		{headers: map[string]string{"Authorization": "Basic " + canary}},
		{headers: map[string]string{"Origin": "http://" + canary}},
		{headers: map[string]string{"Content-Type": canary}},
		{headers: map[string]string{"Content-Encoding": canary}},
		{headers: map[string]string{"Mcp-Method": canary}},
		{headers: map[string]string{"Mcp-Name": canary}},
		{headers: map[string]string{"Mcp-Name": "=?base64?" + canary + "?="}},
		{headers: map[string]string{"Mcp-Param-Region": canary}, params: `"name":"mirrored","arguments":{"region":"` + canary + `x"}`},
		{body: canary},
		{body: `{"` + canary + `":1,"` + canary + `":1}`},
		{body: `{"jsonrpc":"` + canary + `","id":1}`},
		{body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":"` + canary + `"}`},
		{body: `{"jsonrpc":"2.0","id":{"a":"` + canary + `"}}`},
	}
	for _, q := range tests {
		a := w.send(t, q)
		r := a.decode(t)
		if r.Error.Code == 0 && !r.Result.IsError {
			t.Errorf("%+v was served", q)
		}
		text := string(a.body)
		for name, values := range a.header {
			text += name + strings.Join(values, " ")
		}
		if strings.Contains(text, canary) {
			t.Errorf("%+v is repeated in %s", q, text)
		}
		for _, secret := range []string{"10.0.0.", "nil map", "nil pointer", "/etc/", "secret", ".go:"} {
			if strings.Contains(text, secret) {
				t.Errorf("%+v: the answer tells %q: %s", q, secret, text)
			}
		}
	}
	for _, e := range w.audit.take() {
		if text := e.GetTarget() + e.GetAction() + e.GetDecision().GetMessage() + e.GetDecision().GetRule(); strings.Contains(text, canary) {
			t.Errorf("recorded as a name: %v", e)
		}
	}
}

func TestTooManyFailuresTellWhenToComeBack(t *testing.T) {
	t.Parallel()
	a := newWorld(t).send(t, request{token: "bad-too-often"})
	if got := a.header.Get("Retry-After"); got != "42" { // 41.5 s, rounded up
		t.Errorf("got Retry-After %q, want 42", got)
	}
	if got := a.header.Get("Www-Authenticate"); !strings.Contains(got, `error="invalid_token"`) {
		t.Errorf("got challenge %q, want invalid_token", got)
	}
}
