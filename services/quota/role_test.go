package quota_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// meter records what is counted, and can read the gauge.
type meter struct {
	noop.Meter

	mu     sync.Mutex
	counts map[string]int64
	gauges map[string]metric.Int64Callback
}

func (m *meter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return &counter{meter: m, name: name}, nil
}

func (m *meter) Int64ObservableGauge(name string, opts ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	if m.gauges == nil {
		m.gauges = make(map[string]metric.Int64Callback)
	}
	m.gauges[name] = metric.NewInt64ObservableGaugeConfig(opts...).Callbacks()[0]
	return noop.Int64ObservableGauge{}, nil
}

type counter struct {
	noop.Int64Counter

	meter *meter
	name  string
}

func (c *counter) Add(_ context.Context, n int64, opts ...metric.AddOption) {
	attrs := metric.NewAddConfig(opts).Attributes()
	key := c.name
	for _, kv := range attrs.ToSlice() {
		key += fmt.Sprintf(" %s=%v", kv.Key, kv.Value.AsInterface())
	}
	c.meter.mu.Lock()
	defer c.meter.mu.Unlock()
	c.meter.counts[key] += n
}

// keys reads the gauge of counters.
func (m *meter) keys(t *testing.T) int64 {
	t.Helper()
	return m.read(t, "sallyport.quota.keys")
}

// read reads a gauge.
func (m *meter) read(t *testing.T, gauge string) int64 {
	t.Helper()
	var o observer
	if err := m.gauges[gauge](t.Context(), &o); err != nil {
		t.Fatal(err)
	}
	return o.value
}

type observer struct {
	noop.Int64Observer

	value int64
}

func (o *observer) Observe(v int64, _ ...metric.ObserveOption) { o.value = v }

func TestDecisionsAreCounted(t *testing.T) {
	t.Parallel()
	cfg, err := read(testRules)
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{counts: map[string]int64{}}
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
	if diff := cmp.Diff(want, m.counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestRunGivesMemoryBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &meter{counts: map[string]int64{}}
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
