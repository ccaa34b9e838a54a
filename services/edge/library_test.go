package edge_test

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// named is a request about something with a name, in either era.
func named(method, version, name, params string) request {
	member := "name"
	if method == "resources/read" {
		member = "uri"
	}
	q := request{method: method, version: version, params: `"` + member + `":"` + name + `"` + params}
	if version == "2026-07-28" {
		q.headers = map[string]string{"Mcp-Name": name}
	}
	return q
}

// Reads and prompts are decided about by their name, under the hash of what they
// are for, and are counted by their method.
func TestWhatAuthAndQuotaAreToldOfOtherRequests(t *testing.T) {
	t.Parallel()
	const arguments = `{"how":"j\"a","who":"Anna"}` // as the executor can write it, too
	tests := []struct {
		name      string
		request   request
		action    authv1.Action
		target    string
		arguments string
		shape     string
	}{
		{"a list", request{method: "resources/list"}, authv1.Action_ACTION_RESOURCES_LIST, "", "{}", "{}"},
		{"templates", request{method: "resources/templates/list"}, authv1.Action_ACTION_RESOURCES_LIST, "", "{}", "{}"},
		{"a read", named("resources/read", "2026-07-28", "test://a", ""), authv1.Action_ACTION_RESOURCES_READ, "test://a", "{}", "{}"},
		{"prompts", request{method: "prompts/list"}, authv1.Action_ACTION_PROMPTS_LIST, "", "{}", "{}"},
		{
			"a prompt", named("prompts/get", "2026-07-28", "greet", `,"arguments":{ "who":"\u0041nna", "how":"j\"a" }`),
			authv1.Action_ACTION_PROMPTS_GET, "greet", arguments, "{who: string(9), how: string(4)}",
		},
		{"a prompt without arguments", named("prompts/get", "2026-07-28", "greet", ""), authv1.Action_ACTION_PROMPTS_GET, "greet", "{}", "{}"},
		{
			"a completion",
			request{method: "completion/complete", params: `"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"who","value":"A"}`},
			authv1.Action_ACTION_COMPLETE, "greet", "{}", "{}",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if a := w.send(t, tt.request); a.status != http.StatusOK || a.header.Get("Sallyport-Decision-Id") == "" {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			sum := sha256.Sum256([]byte(tt.arguments))
			want := &authv1.AuthorizeRequest{
				Credential: &authv1.Credential{Scheme: authv1.Scheme_SCHEME_BEARER, Token: "good"},
				Origin: &authv1.Origin{
					Address: "127.0.0.1", Client: "tests/1", ProtocolVersion: "2026-07-28",
					ContextId: "key:anna/tests", ContextSource: authv1.ContextSource_CONTEXT_SOURCE_PRINCIPAL,
				},
				Action: tt.action, Target: tt.target, ArgumentsSha256: sum[:], ArgumentsShape: tt.shape,
			}
			if diff := cmp.Diff(want, w.auth.last(), protocmp.Transform()); diff != "" {
				t.Errorf("Authorize (-want +got):\n%s", diff)
			}
			attr := w.quota.last().GetSubject().GetAttributes()
			if _, ok := attr["tool"]; ok || attr["action"] != tt.request.method {
				t.Errorf("Check: got %v", attr)
			}
		})
	}
}

// TestTroubleBehindAResource is how errors of the executor are told where they
// cannot be a tool's result, and what the edge puts on record of them.
func TestTroubleBehindAResource(t *testing.T) {
	t.Parallel()
	const none = auditv1.Reason_REASON_UNSPECIFIED
	tests := []struct {
		name           string // in the URI
		modern, legacy int
		code           int
		reason         string
		recorded       auditv1.Reason
	}{
		{"unknown", 400, 200, -32602, "TOOL_UNKNOWN", none},
		{"unserved", 400, 200, -32602, "INVALID_PARAMS", none},
		{"unreachable", 200, 200, -31503, "TOOL_UNAVAILABLE", none},
		{"unrecorded", 200, 200, -31503, "AUDIT_UNAVAILABLE", auditv1.Reason_REASON_AUDIT_UNAVAILABLE},
		{"tardy", 200, 200, -31503, "TOOL_TIMEOUT", auditv1.Reason_REASON_TOOL_TIMEOUT},
		{"ungranted", 500, 200, -32603, "INTERNAL", none},
		{"broken", 500, 200, -32603, "INTERNAL", auditv1.Reason_REASON_INTERNAL},
		{"empty", 500, 200, -32603, "RESULT_INVALID", auditv1.Reason_REASON_RESULT_INVALID},
		{"starting", 503, 503, -31503, "DEPENDENCY_UNAVAILABLE", auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE},
		{"denied", 200, 200, -31403, "POLICY_DENIED", none},
		{"scoped", 403, 403, -31403, "INSUFFICIENT_SCOPE", none},
	}
	for _, tt := range tests {
		for version, status := range map[string]int{"2026-07-28": tt.modern, "2025-11-25": tt.legacy} {
			t.Run(tt.name+", "+version, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				a := w.send(t, named("resources/read", version, "test://"+tt.name, ""))
				r := a.decode(t)
				if a.status != status || r.Error.Code != tt.code || a.reason(t) != tt.reason {
					t.Errorf("got %d %s, want %d, %d, %s", a.status, a.body, status, tt.code, tt.reason)
				}
				if id, _ := r.Error.Data["decision_id"].(string); id == "" || id != a.header.Get("Sallyport-Decision-Id") {
					t.Errorf("got decision %q in %s", id, a.body)
				}
				if uri, ok := r.Error.Data["uri"]; ok != (tt.name == "unknown") || ok && uri != "test://unknown" {
					t.Errorf("got uri %v", uri)
				}
				for _, secret := range []string{"10.0.0.", "noon", "AUDIT is", "nil map"} {
					if strings.Contains(string(a.body), secret) {
						t.Errorf("the answer tells %q: %s", secret, a.body)
					}
				}
				checkRecord(t, w, a, tt.recorded)
			})
		}
	}
}

func TestNamesThatNothingCanHave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := strings.Repeat("x", 513)
	uris := []string{"", "a", ":a", "a:", "1a:b", "a b:c", "test://a b", "test://\\u0000", "test://\\u202e", "é:a", "x:" + long}
	for _, uri := range uris {
		if a := w.send(t, named("resources/read", "2025-11-25", uri, "")); a.decode(t).Error.Code != -32602 {
			t.Errorf("%q: got %s", uri, a.body)
		}
	}
	for _, name := range []string{"", "a{b}", "a\\nb", strings.Repeat("x", 129)} {
		if a := w.send(t, named("prompts/get", "2025-11-25", name, "")); a.decode(t).Error.Code != -32602 {
			t.Errorf("%q: got %s", name, a.body)
		}
	}
	if n := len(w.auth.authorized); n != 0 {
		t.Errorf("auth was asked %d times", n)
	}
	for _, uri := range []string{"urn:x", "a+b.c-1:/", "test://é/世界", "x:" + long[:510]} {
		if a := w.send(t, named("resources/read", "2025-11-25", uri, "")); a.decode(t).Error.Code != 0 {
			t.Errorf("%q: got %s, want it read", uri, a.body)
		}
	}
}

// Lists fail closed: without auth, or for a credential that is revoked now,
// there is none.
func TestListsOfResourcesAndPromptsFailClosed(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"resources/list", "resources/templates/list", "prompts/list"} {
		w := newWorld(t)
		for token, status := range map[string]int{"good-until-called": 401, "good-but-authorize-down": 503} {
			if a := w.send(t, request{method: method, token: token}); a.status != status {
				t.Errorf("%s, %s: got %d %s, want %d", method, token, a.status, a.body, status)
			}
		}
		w.executor.down.Store(true)
		if a := w.send(t, request{method: method}); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
			t.Errorf("%s without the executor: got %d %s, want 503", method, a.status, a.body)
		}
	}
}

func TestCompletionIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.send(t, request{method: "completion/complete", params: `"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"all","value":""}`})
	var r struct {
		Result struct {
			Completion struct {
				Values  []string
				Total   int
				HasMore bool `json:"hasMore"`
			}
		}
	}
	if err := json.Unmarshal(a.body, &r); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	if c := r.Result.Completion; len(c.Values) != 100 || c.Total != 500 || !c.HasMore {
		t.Errorf("got %d values, total %d, more %v", len(c.Values), c.Total, c.HasMore)
	}
	long := strings.Repeat("x", 4097)
	for name, params := range map[string]string{
		"a long value":   `"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"who","value":"` + long + `"}`,
		"no argument":    `"ref":{"type":"ref/prompt","name":"greet"},"argument":{"value":"x"}`,
		"a long context": `"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"who","value":"x"},"context":{"arguments":{"how":"` + long + `"}}`,
		"a wrong type":   `"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"who","value":7}`,
		"a name in case": `"ref":{"type":"ref/prompt","Name":"greet"},"argument":{"name":"who","value":"x"}`,
	} {
		if a := w.send(t, request{method: "completion/complete", params: params}); a.decode(t).Error.Code != -32602 {
			t.Errorf("%s: got %s", name, a.body)
		}
	}
}
