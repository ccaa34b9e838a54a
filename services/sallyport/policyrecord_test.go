package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// TestWhatARecordKnows checks that nothing is taken for known that the record of a
// decision does not say.
func TestWhatARecordKnows(t *testing.T) {
	t.Parallel()
	keys := map[string]*authv1.Key{"key:aaaaaaaaaa": {Id: "aaaaaaaaaa", Name: "ci", Owner: "anna"}}
	var many []string
	for i := range 65 {
		many = append(many, fmt.Sprint(i))
	}
	all := []string{"address", "client", "time", "hops", "steps", "protocol", "context_source", "principal.name", "principal.owner", "principal.scopes"}
	tests := []struct {
		name    string
		who     string
		inputs  map[string]string
		unknown string // as it is told
		calls   string
		scopes  []string
	}{
		{
			name: "a key that is known", who: "key:aaaaaaaaaa", calls: "ci",
			unknown: "context_source, hops, protocol, steps",
		},
		{
			name: "a key that is forgotten", who: "key:bbbbbbbbbb",
			unknown: "context_source, hops, principal.name, principal.owner, protocol, steps",
		},
		{
			name: "a key of which a name is on record", who: "key:aaaaaaaaaa", calls: "then",
			inputs:  map[string]string{"principal.name": "then", "hops": "0", "steps": "1"},
			unknown: "context_source, protocol",
		},
		{
			name: "a machine", who: "spiffe://example.org/ci",
			unknown: "context_source, hops, principal.name, principal.owner, protocol, steps",
		},
		{
			name: "a token", who: "user:x/anna",
			unknown: "context_source, hops, principal.name, principal.owner, principal.scopes, protocol, steps",
		},
		{
			name: "a token of which all is on record", who: "user:x/anna", calls: "Anna", scopes: []string{"a", "b"},
			inputs: map[string]string{
				"principal.name": "Anna", "principal.owner": "", "principal.scopes": "a b",
				"hops": "3", "steps": "4", "protocol": "2026-07-28", "context_source": "trace",
			},
		},
		{
			name: "a token without scopes", who: "user:x/anna", inputs: map[string]string{"principal.scopes": ""},
			unknown: "context_source, hops, principal.name, principal.owner, protocol, steps",
		},
		{
			name: "a token whose scopes had no room", who: "user:x/anna", inputs: map[string]string{"principal.scopes": "a b …"}, scopes: []string{"a", "b", "…"},
			unknown: "context_source, hops, principal.name, principal.owner, principal.scopes, protocol, steps",
		},
		{
			name: "a token with more scopes than a case can have", who: "user:x/anna", inputs: map[string]string{"principal.scopes": strings.Join(many, " ")}, scopes: many[:64],
			unknown: "context_source, hops, principal.name, principal.owner, principal.scopes, protocol, steps",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			event := decided(1, tt.who, "look", &auditv1.Decision{Verdict: auditv1.Verdict_VERDICT_ALLOW, Inputs: tt.inputs})
			one, ok := again(event, keys)
			if !ok {
				t.Fatal("it is not replayed")
			}
			now := &authv1.Explanation{Verdict: auditv1.Verdict_VERDICT_ALLOW, Inputs: make(map[string]string)}
			for _, name := range all {
				now.Inputs[name] = ""
			}
			var want unknownWhy
			if tt.unknown != "" {
				want = unknownWhy("needs " + tt.unknown + ": not on record, where only what policies have read then is")
			}
			if got := one.untold(now); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if one.one.GetPrincipal().GetName() != tt.calls {
				t.Errorf("got the name %q, want %q", one.one.GetPrincipal().GetName(), tt.calls)
			}
			if diff := cmp.Diff(tt.scopes, one.one.GetScopes(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("scopes (-want +got):\n%s", diff)
			}
			if tt.inputs["hops"] == "3" {
				steps := uint64(4)
				want := &authv1.Origin{
					Address: "10.0.0.7", Client: "cli/1", ProtocolVersion: "2026-07-28", Hops: 3, Steps: &steps,
					ContextSource: authv1.ContextSource_CONTEXT_SOURCE_TRACE,
				}
				if diff := cmp.Diff(want, one.one.GetOrigin(), protocmp.Transform()); diff != "" {
					t.Errorf("origin (-want +got):\n%s", diff)
				}
			}
		})
	}
}
