package auth_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// TestNamesOfTools checks that all a tool of a provider can be called works, and
// that names which differ in case alone are names of different tools.
func TestNamesOfTools(t *testing.T) {
	t.Parallel()
	names := []string{"git.Commit", "git.commit", "Read-File_2", "..", "-", "7", strings.Repeat("Ab.-", 16)}
	c := &executorv1.Catalogue{Version: "2"}
	for _, name := range names {
		c.Entries = append(c.Entries, &executorv1.Catalogue_Entry{
			Name: name, Service: "Bridge.One", Digest: make([]byte, 32), Options: &toolv1.Tool{Risk: toolv1.Risk_RISK_READ},
		})
	}
	data, err := proto.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	st := newStore(t)
	if _, err := st.Put(t.Context(), bus.Catalogue, "current", data); err != nil {
		t.Fatal(err)
	}
	own := writePolicies(t, `
		@id("service") permit (principal in Role::"service", action, resource in Service::"Bridge.One");
		@id("name") permit (principal in Role::"name", action, resource == Tool::"git.Commit");
		@id("names") permit (principal in Role::"names", action, resource is Tool) when { resource.name like "git.*" };`)
	h := open(t, st, func(c *auth.Config) { c.Policies = []string{own} })
	tests := []struct {
		name  string
		role  string
		tools []string // the key is restricted to these
		task  []string
		want  []string
	}{
		{name: "all of a service", role: "service", want: names},
		{name: "one by its name", role: "name", want: names[:1]},
		{name: "those with a beginning", role: "names", want: names[:2]},
		{name: "one that the key is restricted to", role: "service", tools: []string{"git.Commit", names[6]}, want: []string{"git.Commit", names[6]}},
		{name: "none where the key is restricted to another case", role: "service", tools: []string{"GIT.COMMIT"}},
		{name: "no pattern where the key is restricted", role: "service", tools: []string{"git.*", "*"}},
		{name: "those of the task", role: "service", task: []string{"Read-File_2"}, want: names[2:3]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, text := h.key(t, &authv1.CreateKeyRequest{
				Name: tt.name, Roles: []string{tt.role}, Restrictions: &authv1.KeyRestrictions{Tools: tt.tools},
			})
			h.ledger.take()
			var called []string
			for _, name := range names {
				req := call(text, name, "{}")
				req.TaskTools = tt.task
				resp, err := h.auth.Authorize(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				if resp.GetDecision().GetVerdict() == auditv1.Verdict_VERDICT_ALLOW {
					called = append(called, name)
				}
			}
			if !slices.Equal(called, tt.want) {
				t.Errorf("may call: got %q, want %q", called, tt.want)
			}
			for i, e := range h.ledger.take() {
				if e.GetTarget() != names[i] {
					t.Errorf("recorded: got %q, want %q", e.GetTarget(), names[i])
				}
			}
			resp, err := h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{
				Credential: bearer(text), Origin: from("192.0.2.7"), Tools: names,
			})
			if err != nil {
				t.Fatal(err)
			}
			if tt.task == nil && !slices.Equal(resp.GetAllowed(), tt.want) {
				t.Errorf("may see: got %q, want %q", resp.GetAllowed(), tt.want)
			}
			list, err := h.keys.ListKeys(t.Context(), &authv1.ListKeysRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range list.GetKeys() {
				if k.GetId() == id && !slices.Equal(k.GetRestrictions().GetTools(), tt.tools) {
					t.Errorf("restrictions: got %q, want %q", k.GetRestrictions().GetTools(), tt.tools)
				}
			}
		})
	}
}
