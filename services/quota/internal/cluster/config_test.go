package cluster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
)

func TestConfigTellsAllMistakes(t *testing.T) {
	t.Parallel()
	if err := cluster.DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	err := cluster.Config{Lease: time.Millisecond, Patience: time.Hour, CopyEvery: -1}.Validate()
	for _, want := range []string{"cluster.lease: 1ms", "cluster.patience: 1h0m0s", "cluster.copy_every: -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to have %q", err, want)
		}
	}
}
