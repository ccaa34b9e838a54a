package quota

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// metrics counts decisions. The options are made once, so that counting does
// not allocate.
type metrics struct {
	checks   *tallies
	shadow   metric.Int64Counter
	changes  metric.Int64Counter
	leased   metric.Int64Counter
	degraded metric.Int64Counter
}

func newMetrics(meter metric.Meter, keys, problems func() int) (m metrics, err error) {
	if meter == nil {
		meter = noop.Meter{}
	}
	m.checks = newTallies()
	_, err = meter.Int64ObservableCounter("sallyport.quota.checks",
		metric.WithDescription("Decisions, and which rule refused."), metric.WithUnit("{check}"), metric.WithInt64Callback(m.checks.observe))
	if err != nil {
		return m, fmt.Errorf("make counter of checks: %w", err)
	}
	m.shadow, err = meter.Int64Counter("sallyport.quota.shadow_refusals",
		metric.WithDescription("What shadow rules would have refused, of what was allowed."), metric.WithUnit("{check}"))
	if err != nil {
		return m, fmt.Errorf("make counter of shadow refusals: %w", err)
	}
	_, err = meter.Int64ObservableGauge("sallyport.quota.keys",
		metric.WithDescription("Counters in memory."), metric.WithUnit("{key}"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(keys()))
			return nil
		}))
	if err != nil {
		return m, fmt.Errorf("make gauge of keys: %w", err)
	}
	m.changes, err = meter.Int64Counter("sallyport.quota.rule_changes",
		metric.WithDescription("How often other rules have taken the place of those before."), metric.WithUnit("{change}"))
	if err != nil {
		return m, fmt.Errorf("make counter of changes: %w", err)
	}
	m.leased, err = meter.Int64Counter("sallyport.quota.leased",
		metric.WithDescription("Checks that were charged in advance, for callers to allow without asking; those of them that were made are among the checks once the lease was given back."), metric.WithUnit("{check}"))
	if err != nil {
		return m, fmt.Errorf("make counter of leases: %w", err)
	}
	m.degraded, err = meter.Int64Counter("sallyport.quota.degraded",
		metric.WithDescription("Limits that were decided without the node that owns the count."), metric.WithUnit("{limit}"))
	if err != nil {
		return m, fmt.Errorf("make counter of degraded decisions: %w", err)
	}
	_, err = meter.Int64ObservableGauge("sallyport.quota.rule_problems",
		metric.WithDescription("What is wrong with newer rules, which therefore do not hold."), metric.WithUnit("{problem}"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(problems()))
			return nil
		}))
	if err != nil {
		return m, fmt.Errorf("make gauge of problems: %w", err)
	}
	return m, nil
}

func with(kvs ...attribute.KeyValue) []metric.AddOption {
	return []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(kvs...))}
}

// checked counts a decision by the rule that refused, or noRule.
func (m *metrics) checked(p *plan, rule int) {
	if rule == noRule {
		m.checks.allowed.Add(1)
		return
	}
	p.refused[rule].Add(1)
}

// spared counts what was decided without an owner.
func (m *metrics) spared(ctx context.Context, p *plan, asks []limiter.Ask) {
	for i := range asks {
		if asks[i].State.Degraded {
			m.degraded.Add(ctx, 1, p.ruled[p.rates[asks[i].Limit].rule]...)
		}
	}
}

// shadowed counts what would have been refused by rules that do not refuse.
func (m *metrics) shadowed(ctx context.Context, p *plan, bounds []bound, asks []limiter.Ask) {
	for i := range asks {
		if b := &bounds[asks[i].Limit]; b.shadow && asks[i].State.Exceeded {
			m.shadow.Add(ctx, 1, p.ruled[b.rule]...)
		}
	}
}
