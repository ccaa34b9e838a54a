// Package telemetry sets up OpenTelemetry for a process, once: traces and
// metrics by the standard OTEL_* variables, Prometheus for scraping, logs that
// carry trace ids. It is the only importer of the SDK; the API may be used
// anywhere.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-mcp/sallyport/pkg/rpc"
)

// scope is the name of our instrumentation.
const scope = "github.com/sallyport-mcp/sallyport"

// Telemetry is what a process observes itself with.
type Telemetry struct {
	version, node string
	processor     sdktrace.SpanProcessor // shared by all roles; nil when traces go nowhere
	meters        *sdkmetric.MeterProvider
	registry      *prometheus.Registry

	mu     sync.Mutex
	traces map[string]*sdktrace.TracerProvider // by role
}

// Start reads the OTEL_* variables (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
// Traces and metrics are exported by OTLP if an OTLP endpoint is set for them and
// OTEL_TRACES_EXPORTER or OTEL_METRICS_EXPORTER is not "none"; metrics are served
// for scraping in any case. Without a place for traces, spans still have ids, so
// that logs and audit events of one call can be found together.
//
// Failures to export are logged to log, which must not be nil: OpenTelemetry
// tells of them through one handler for the whole process.
func Start(ctx context.Context, version, node string, log *slog.Logger) (*Telemetry, error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry", "err", err) }))
	t := &Telemetry{version: version, node: node, registry: prometheus.NewRegistry(), traces: make(map[string]*sdktrace.TracerProvider)}
	spans, points, err := exporters(ctx)
	if err != nil {
		return nil, err
	}
	if spans != nil {
		t.processor = sdktrace.NewBatchSpanProcessor(spans)
	}
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	scraped, err := otelprom.New(otelprom.WithRegisterer(t.registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	opts := []sdkmetric.Option{sdkmetric.WithReader(scraped), sdkmetric.WithResource(t.resource("sallyport"))}
	if points != nil {
		opts = append(opts, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points)))
	}
	t.meters = sdkmetric.NewMeterProvider(opts...)
	return t, nil
}

func (t *Telemetry) resource(service string) *resource.Resource {
	own := resource.NewSchemaless(
		attribute.String("service.name", service),
		attribute.String("service.namespace", "sallyport"),
		attribute.String("service.version", t.version),
		attribute.String("service.instance.id", t.node),
	)
	r, err := resource.Merge(resource.Environment(), own) // ours wins: roles must be told apart
	if err != nil {
		return own
	}
	return r
}

// Traces returns the tracer provider of a role. In one process each role has its
// own, so that a trace shows the same services as it does in a cluster.
func (t *Telemetry) Traces(role string) trace.TracerProvider {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.traces[role]
	if p == nil {
		opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(t.resource("sallyport-" + role))}
		if t.processor != nil {
			opts = append(opts, sdktrace.WithSpanProcessor(t.processor))
		} else {
			opts = append(opts, sdktrace.WithSampler(sdktrace.NeverSample()))
		}
		p = sdktrace.NewTracerProvider(opts...)
		t.traces[role] = p
	}
	return p
}

// Tracer returns the tracer of a role.
func (t *Telemetry) Tracer(role string) trace.Tracer {
	return t.Traces(role).Tracer(scope, trace.WithInstrumentationVersion(t.version))
}

// Meter returns the meter of a role.
func (t *Telemetry) Meter(role string) metric.Meter {
	return t.meters.Meter(scope+"/"+role, metric.WithInstrumentationVersion(t.version))
}

// Observer returns what observes the calls that a role serves and makes.
func (t *Telemetry) Observer(role string) (*rpc.Observer, error) {
	return rpc.NewObserver(t.Tracer(role), t.Meter(role))
}

// Metrics serves the metrics in the Prometheus and OpenMetrics formats.
func (t *Telemetry) Metrics() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Shutdown sends what is waiting and stops.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, p := range t.traces {
		errs = append(errs, p.Shutdown(ctx)) // the shared processor is shut down once
	}
	return errors.Join(append(errs, t.meters.Shutdown(ctx))...)
}
