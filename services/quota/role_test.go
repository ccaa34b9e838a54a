package quota_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// meter can be read.
type meter struct {
	metric.Meter

	reader *sdkmetric.ManualReader
}

func newMeter() *meter {
	r := sdkmetric.NewManualReader()
	return &meter{sdkmetric.NewMeterProvider(sdkmetric.WithReader(r)).Meter("quota"), r}
}

// counts reads all counters and gauges, by name and attributes.
func (m *meter) counts(t *testing.T) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := m.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int64)
	for _, scope := range all.ScopeMetrics {
		for _, one := range scope.Metrics {
			var points []metricdata.DataPoint[int64]
			switch data := one.Data.(type) {
			case metricdata.Sum[int64]:
				points = data.DataPoints
			case metricdata.Gauge[int64]:
				points = data.DataPoints
			}
			for _, p := range points {
				name := one.Name
				for _, kv := range p.Attributes.ToSlice() {
					name += fmt.Sprintf(" %s=%v", kv.Key, kv.Value.AsInterface())
				}
				counts[name] = p.Value
			}
		}
	}
	return counts
}

// keys reads the gauge of counters.
func (m *meter) keys(t *testing.T) int64 {
	t.Helper()
	return m.counts(t)["sallyport.quota.keys"]
}

func TestDecisionsAreCounted(t *testing.T) {
	t.Parallel()
	cfg, err := read(testRules)
	if err != nil {
		t.Fatal(err)
	}
	m := newMeter()
	svc, err := quota.New(cfg, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, svc)
	for range 4 {
		for _, req := range []*quotav1.CheckRequest{check("ip", "192.0.2.1", "action", "tools/call"), check("user", "ann", "tool", "watched")} {
			if _, err := c.Check(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := map[string]int64{
		"sallyport.quota.checks allowed=true":              3 + 4,
		"sallyport.quota.checks allowed=false rule=per-ip": 1,
		"sallyport.quota.shadow_refusals rule=watch":       3,
	}
	got := m.counts(t)
	maps.DeleteFunc(got, func(name string, _ int64) bool { return !strings.Contains(name, "=") }) // gauges
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestRunGivesMemoryBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeter()
		svc, err := quota.New(quota.DefaultConfig(), m, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- svc.Run(ctx) }()

		for i := range 1000 {
			req := check("ip", fmt.Sprintf("192.0.2.%d", i%250), "action", "tools/call", "key", fmt.Sprint(i))
			if _, err := svc.Check(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		if got := m.keys(t); got != 1250 {
			t.Errorf("counters: got %d, want 1250", got)
		}
		time.Sleep(3 * time.Minute)
		if got := m.keys(t); got != 0 {
			t.Errorf("counters when all are idle and every part was swept: got %d, want 0", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
