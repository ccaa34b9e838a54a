package approval_test

import (
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/approval"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := approval.DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	err := approval.Config{"GitHub": approval.ModeAll, "*": "some", "slack": "", "jira": approval.ModeNothing}.Validate()
	for _, want := range []string{`"GitHub" is neither`, `hold.*: "some"`, `hold.slack: ""`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want it to say %s", err, want)
		}
	}
	if _, err := approval.New(approval.Options{Config: approval.Config{"*": "some"}}); err == nil {
		t.Error("New takes a bad configuration")
	}
}

func TestModeOfAService(t *testing.T) {
	t.Parallel()
	cfg := approval.Config{"*": approval.ModeAll, "github": approval.ModeNothing, "basics": approval.ModeChanges}
	tests := []struct {
		name     string
		cfg      approval.Config
		service  string
		provider bool
		want     approval.Mode
	}{
		{"a provider by default", nil, "github", true, approval.ModeChanges},
		{"a service with descriptors by default", nil, "basics", false, approval.ModeLoosened},
		{"a provider that is named", cfg, "github", true, approval.ModeNothing},
		{"a service with descriptors that is named", cfg, "basics", false, approval.ModeChanges},
		{"a provider that is not named", cfg, "slack", true, approval.ModeAll},
		{"a service with descriptors that is not named", cfg, "logs", false, approval.ModeLoosened},
	}
	for _, tt := range tests {
		if got := tt.cfg.Mode(tt.service, tt.provider); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
