package audit

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// metrics count batches, not single events, as they are counted once for each
// batch and so cost nothing on the path of a call.
type metrics struct {
	events, batches, failures metric.Int64Counter
}

func newMetrics(m metric.Meter, length func() int) (*metrics, error) {
	if m == nil {
		m = noop.Meter{}
	}
	events, err1 := m.Int64Counter("sallyport.audit.events",
		metric.WithDescription("Audit events that the stream has acknowledged."), metric.WithUnit("{event}"))
	batches, err2 := m.Int64Counter("sallyport.audit.batches",
		metric.WithDescription("Audit batches that the stream has acknowledged."), metric.WithUnit("{batch}"))
	failures, err3 := m.Int64Counter("sallyport.audit.publish.failures",
		metric.WithDescription("Attempts to publish an audit batch that were not acknowledged."), metric.WithUnit("{attempt}"))
	_, err4 := m.Int64ObservableGauge("sallyport.audit.queue.length",
		metric.WithDescription("Audit events that wait for the stream."), metric.WithUnit("{event}"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(length()))
			return nil
		}))
	return &metrics{events, batches, failures}, errors.Join(err1, err2, err3, err4)
}

func (m *metrics) published(ctx context.Context, events int) {
	m.events.Add(ctx, int64(events))
	m.batches.Add(ctx, 1)
}

func (m *metrics) failed(ctx context.Context) { m.failures.Add(ctx, 1) }
