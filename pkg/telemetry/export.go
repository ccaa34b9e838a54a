package telemetry

import (
	"context"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exporters returns what the environment asks for; nil where it asks for none.
func exporters(ctx context.Context) (spans sdktrace.SpanExporter, points sdkmetric.Exporter, err error) {
	protocol, err := wanted("TRACES")
	if err != nil {
		return nil, nil, err
	}
	switch protocol {
	case "grpc":
		spans, err = otlptracegrpc.New(ctx)
	case "http/protobuf":
		spans, err = otlptracehttp.New(ctx)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("trace exporter: %w", err)
	}
	if protocol, err = wanted("METRICS"); err != nil {
		return nil, nil, err
	}
	switch protocol {
	case "grpc":
		points, err = otlpmetricgrpc.New(ctx)
	case "http/protobuf":
		points, err = otlpmetrichttp.New(ctx)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("metric exporter: %w", err)
	}
	return spans, points, nil
}

// wanted returns the protocol by which a signal is to be exported, "" for not at
// all. The exporters themselves read endpoint, headers, certificates and so on.
func wanted(signal string) (protocol string, err error) {
	first := func(names ...string) string {
		for _, n := range names {
			if v := os.Getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	switch how := os.Getenv("OTEL_" + signal + "_EXPORTER"); {
	case os.Getenv("OTEL_SDK_DISABLED") == "true", how == "none":
		return "", nil
	case how != "" && how != "otlp":
		return "", fmt.Errorf("OTEL_%s_EXPORTER: %q is neither otlp nor none", signal, how)
	case first("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") == "":
		return "", nil
	}
	switch protocol = first("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "":
		return "http/protobuf", nil
	case "grpc", "http/protobuf":
		return protocol, nil
	}
	return "", fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q is neither grpc nor http/protobuf", protocol)
}
