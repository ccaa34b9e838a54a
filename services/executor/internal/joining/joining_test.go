package joining_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
)

func TestNames(t *testing.T) {
	t.Parallel()
	c := joining.Config{Prefix: "ev_", Aliases: map[string]string{"get sum": "sum", "long": "short"}}
	tests := []struct{ name, want, wantErr string }{
		{"echo", "ev_echo", ""},
		{"get sum", "sum", ""},
		{"long", "short", ""},
		{"with space", "", "must match"},
		{strings.Repeat("x", 62), "", "must match"},
	}
	for _, tt := range tests {
		got, err := c.Tool(tt.name)
		if got != tt.want || (err == nil) != (tt.wantErr == "") {
			t.Errorf("Tool(%q) = %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	if got, err := c.Prompt(strings.Repeat("x", 62)); err != nil || len(got) != 65 {
		t.Errorf("Prompt = %q, %v", got, err)
	}
	unused := c.Unused(map[string]bool{"long": true}, nil)
	if diff := cmp.Diff([]string{"aliases.get sum"}, unused); diff != "" {
		t.Errorf("Unused (-want +got):\n%s", diff)
	}
}

// What the operator says of one tool wins over all; what he says of all tools
// makes none less risky than it says of itself.
func TestClassify(t *testing.T) {
	t.Parallel()
	c := joining.Config{
		Default: joining.Options{Risk: "write", Tags: []string{"federated"}, Trust: "untrusted", Timeout: time.Minute},
		Tools: map[string]joining.Options{"wipe": {
			Risk: "read", Idempotent: new(true), Cost: 3, Scopes: []string{"a:b"}, Sensitivity: "public", Outbound: new(false),
			Uses: map[string]joining.Use{"rows": {Estimate: 5, Most: 9}, "cents": {Estimate: 1}},
		}},
	}
	tests := []struct {
		name, tool string
		said, want *toolv1.Tool
	}{
		{"nothing was said", "x", nil, &toolv1.Tool{Risk: toolv1.Risk_RISK_WRITE}},
		{"it says that it is harmless", "x", &toolv1.Tool{Risk: toolv1.Risk_RISK_READ, Tags: []string{"own"}}, &toolv1.Tool{Risk: toolv1.Risk_RISK_WRITE}},
		{"it says that it is not", "x", &toolv1.Tool{Risk: toolv1.Risk_RISK_DESTRUCTIVE}, &toolv1.Tool{Risk: toolv1.Risk_RISK_DESTRUCTIVE}},
		{"by name", "wipe", &toolv1.Tool{Risk: toolv1.Risk_RISK_DESTRUCTIVE, Outbound: true}, &toolv1.Tool{
			Risk: toolv1.Risk_RISK_READ, Idempotent: true, Cost: 3, Scopes: []string{"a:b"}, Sensitivity: toolv1.Sensitivity_SENSITIVITY_PUBLIC,
			Uses: []*toolv1.Use{{Unit: "cents", Estimate: 1}, {Unit: "rows", Estimate: 5, Most: 9}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.want.Tags, tt.want.Trust, tt.want.Timeout = []string{"federated"}, toolv1.Trust_TRUST_UNTRUSTED, durationpb.New(time.Minute)
			got := c.Classify(tt.tool, &providerv1.ToolDefinition{Name: "n", Options: tt.said})
			if diff := cmp.Diff(&providerv1.ToolDefinition{Name: "n", Options: tt.want}, got, protocmp.Transform()); diff != "" {
				t.Errorf("Classify (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := joining.Config{Prefix: "ev_", Aliases: map[string]string{"a": "b"}, Default: joining.Options{Risk: "write"}}
	if err := good.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
	bad := joining.Config{
		Prefix: "e v", Aliases: map[string]string{"a": "", "b": "x", "c": "x"},
		Default: joining.Options{Risk: "none", Trust: "none", Sensitivity: "none", Timeout: -1},
		Tools: map[string]joining.Options{"t": {
			Tags: []string{"Not A Tag"}, Scopes: []string{""}, Cost: 1 << 30, Timeout: 2 * time.Hour,
			Uses: map[string]joining.Use{"a": {}, "calls": {Estimate: 1}, "rows": {Estimate: 2, Most: 1}},
		}},
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("Validate accepts everything")
	}
	for _, want := range []string{
		"prefix:", "aliases.a:", "aliases.c:", "default: risk", "trust:", "sensitivity:", "/timeout", "tools.t:", "/tags/0", "/scopes/0", "/cost",
		"/uses/0/estimate", "/uses/1/unit", "/uses/2: most must not be less",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Validate does not tell of %s: %v", want, err)
		}
	}
}
