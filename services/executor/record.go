package executor

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// event is what all events of a call have in common.
func (c *call) event() *auditv1.Event {
	return &auditv1.Event{
		DecisionId: c.grant.GetDecisionId(),
		Actor:      c.actor,
		Action:     "tools/call",
		Target:     c.request.GetTool(),
	}
}

// record says how the call ended.
func (c *call) record(ctx context.Context, end ending) {
	if c.check != nil {
		end.findings = c.check.Findings()
	}
	end.used = c.usage.GetUsed()
	ctx = context.WithoutCancel(ctx)
	c.service.outcome(ctx, c.event(), end)
	// Only names from the catalogue: a caller must not be able to make series.
	if c.entry != nil {
		c.service.metrics.ended(ctx, c.entry.Name(), end)
	}
}

// outcome completes and records an event. It is too late to refuse anything, so
// a failure is only logged. It has to be done though the caller has gone, so ctx must not
// be his.
func (s *Service) outcome(ctx context.Context, e *auditv1.Event, end ending) {
	outcome := &auditv1.Outcome{Status: end.status, Reason: end.reason}
	if end.duration > 0 {
		outcome.Duration = durationpb.New(end.duration)
	}
	if out := end.result(); len(out) > 0 {
		sum := sha256.Sum256(out)
		outcome.ResultBytes, outcome.ResultSha256 = uint64(len(out)), sum[:]
	}
	outcome.GuardFindings, outcome.Used = end.findings, end.used
	s.metrics.found(ctx, end.findings)
	e.What = &auditv1.Event_Outcome{Outcome: outcome}
	if err := s.audit.Record(ctx, e); err != nil {
		s.log.ErrorContext(ctx, "an outcome could not be recorded",
			"decision", e.GetDecisionId(), "target", e.GetTarget(), "status", end.status.String(), "err", err)
	}
}

// result is what the record's hash of a result is over: the JSON of an RPC's,
// and the message of a provider's.
func (e ending) result() []byte {
	m := e.message
	if e.answer.Result != nil {
		m = e.answer.Result
	}
	if m == nil {
		return e.answer.JSON
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil // it came over the wire and was checked
	}
	return raw
}

// metrics are the service's own measurements.
type metrics struct {
	calls    metric.Int64Counter
	duration metric.Float64Histogram
	refused  metric.Int64Counter
	findings metric.Int64Counter
	sets     sync.Map // of [2]string, tool and outcome, to metric.MeasurementOption
}

func newMetrics(m metric.Meter) (*metrics, error) {
	calls, err := m.Int64Counter("sallyport.tool.calls",
		metric.WithUnit("{call}"), metric.WithDescription("Tool calls by how they ended."))
	if err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	duration, err := m.Float64Histogram("sallyport.tool.duration",
		metric.WithUnit("s"), metric.WithDescription("Time in tool services."),
		metric.WithExplicitBucketBoundaries(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30))
	if err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	refused, err := m.Int64Counter("sallyport.catalogue.refused",
		metric.WithUnit("{entry}"), metric.WithDescription("Announcements and tools that were not taken in."))
	if err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	findings, err := m.Int64Counter("sallyport.guard.findings",
		metric.WithUnit("{finding}"), metric.WithDescription("What guards have found in calls, by what was done about it."))
	if err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	return &metrics{calls: calls, duration: duration, refused: refused, findings: findings}, nil
}

// found counts what guards have found, and why one was not asked. Rules are not in it:
// there are too many.
func (m *metrics) found(ctx context.Context, findings []*auditv1.GuardFinding) {
	for _, f := range findings {
		attributes := []attribute.KeyValue{
			attribute.String("guard", f.GetGuard()),
			attribute.String("action", strings.TrimPrefix(f.GetAction().String(), "GUARD_ACTION_")),
			attribute.String("side", strings.TrimPrefix(f.GetSide().String(), "GUARD_SIDE_")),
		}
		if failure, failed := strings.CutPrefix(f.GetRule(), "failed:"); failed {
			attributes = append(attributes, attribute.String("failure", failure))
		}
		m.findings.Add(ctx, int64(f.GetCount()), metric.WithAttributes(attributes...))
	}
}

func (m *metrics) ended(ctx context.Context, tool string, end ending) {
	outcome := "OK"
	if end.status != auditv1.Status_STATUS_OK {
		outcome = reasonName(end.reason)
	}
	key := [2]string{tool, outcome}
	set, ok := m.sets.Load(key)
	if !ok {
		set, _ = m.sets.LoadOrStore(key, metric.WithAttributeSet(attribute.NewSet(
			attribute.String("tool", tool), attribute.String("outcome", outcome))))
	}
	attributes := set.(metric.MeasurementOption)
	m.calls.Add(ctx, 1, attributes)
	if end.duration > 0 {
		m.duration.Record(ctx, end.duration.Seconds(), attributes)
	}
}

// reasonName is a reason as people see it.
func reasonName(r auditv1.Reason) string { return strings.TrimPrefix(r.String(), "REASON_") }

// clip keeps a text within n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
