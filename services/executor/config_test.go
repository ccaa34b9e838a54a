package executor_test

import (
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/approval"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/joining"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := executor.DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	bad := executor.Config{
		Joining: map[string]joining.Config{"Bad": {}, "ev": {Prefix: "no good"}}, Hold: approval.Config{"ev": "some"},
		Services: []executor.ServiceConfig{{Name: "Bad Name"}}, GrantKeyFiles: []string{""},
		Envelope: executor.EnvelopeConfig{ExceptTools: []string{""}, ExceptResources: []string{"No"}, ExceptRoles: []string{""}},
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("Validate accepts everything")
	}
	for _, want := range []string{
		"services[0].name", `joining: the service "Bad"`, "joining.ev: prefix", "hold", "services[0].address", "grant_key_files[0]", "reflection_interval", "default_timeout",
		"audit_timeout", "max_result_bytes", "max_in_flight", "max_used_grants",
		"envelope.except_tools[0]", "envelope.except_resources[0]", "envelope.except_roles[0]",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Validate does not tell of %s: %v", want, err)
		}
	}
	if _, err := executor.New(executor.Options{Config: bad}); err == nil {
		t.Error("New accepts a bad configuration")
	}
}
