package audit

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/index"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/stream"
)

type metrics struct{ events, rejected metric.Int64Counter }

func newMetrics(m metric.Meter, lag func() uint64) (*metrics, error) {
	if m == nil {
		m = metricnoop.Meter{}
	}
	events, err1 := m.Int64Counter("sallyport.audit.index.events",
		metric.WithDescription("Events added to the audit index."), metric.WithUnit("{event}"))
	rejected, err2 := m.Int64Counter("sallyport.audit.index.malformed",
		metric.WithDescription("Events and messages of the audit stream that cannot be indexed."), metric.WithUnit("{event}"))
	_, err3 := m.Int64ObservableGauge("sallyport.audit.index.lag",
		metric.WithDescription("Messages of the audit stream that are not indexed yet."), metric.WithUnit("{message}"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(lag()))
			return nil
		}))
	return &metrics{events, rejected}, errors.Join(err1, err2, err3)
}

func (m *metrics) indexed(ctx context.Context, events int) { m.events.Add(ctx, int64(events)) }

func (m *metrics) malformed(ctx context.Context, events int) { m.rejected.Add(ctx, int64(events)) }

// spanAge is how old a message may be to have a span. When an index is made
// again, the traces of its events ended long ago.
const spanAge = time.Minute

// span records that messages were processed, once for each span that wrote
// events in them, as its child: so a call, and that it was recorded, are one
// trace. Spans that nobody sampled have no children.
func (s *Service) span(ctx context.Context, begin time.Time, messages []stream.Message, entries []index.Entry) {
	type origin struct {
		sequence    uint64
		traceparent string
	}
	var events map[origin]int
	for i := range entries {
		if tp := entries[i].Traceparent; sampled(tp) {
			if events == nil {
				events = make(map[origin]int)
			}
			events[origin{entries[i].Sequence, tp}]++
		}
	}
	if events == nil {
		return
	}
	end := time.Now()
	sent := make(map[uint64]stream.Message, len(messages))
	for _, m := range messages {
		sent[m.Sequence] = m
	}
	for o, n := range events {
		m := sent[o.sequence]
		if begin.Sub(m.Time) > spanAge {
			continue
		}
		parent := propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": o.traceparent})
		if !trace.SpanContextFromContext(parent).IsSampled() {
			continue
		}
		_, span := s.tracer.Start(parent, "process "+bus.SubjectAudit,
			trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithTimestamp(begin),
			trace.WithAttributes(
				attribute.String("messaging.system", "nats"),
				attribute.String("messaging.operation.name", "process"),
				attribute.String("messaging.operation.type", "process"),
				attribute.String("messaging.destination.name", bus.SubjectAudit),
				attribute.String("messaging.message.id", m.ID),
				attribute.Int("messaging.batch.message_count", n),
			))
		span.End(trace.WithTimestamp(end))
	}
}

// sampled reports whether a traceparent may be that of a sampled span, without
// reading all of it.
func sampled(traceparent string) bool {
	if len(traceparent) < 55 {
		return false
	}
	switch traceparent[54] {
	case '1', '3', '5', '7', '9', 'b', 'd', 'f':
		return true
	}
	return false
}
