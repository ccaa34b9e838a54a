package edge_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sallyport-mcp/sallyport/services/edge"
)

func TestSpans(t *testing.T) {
	t.Parallel()
	const inMeta, inHeader = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"
	meta := `"traceparent":"00-` + inMeta + `-b7ad6b7169203331-01"`
	header := map[string]string{"Traceparent": "00-" + inHeader + "-00f067aa0ba902b7-01"}
	const id = "d_01K00000000000000000000000"
	tests := []struct {
		name    string
		request request
		span    string
		trace   string // "" for a new one
		want    map[string]string
		failed  bool
	}{
		{
			"a call is named by its tool, under the trace in _meta",
			request{meta: meta, headers: header},
			"tools/call echo", inMeta,
			map[string]string{
				"mcp.method.name": "tools/call", "gen_ai.tool.name": "echo", "gen_ai.operation.name": "execute_tool",
				"mcp.protocol.version": "2026-07-28", "jsonrpc.request.id": "1", "sallyport.decision.id": id,
			},
			false,
		}, {
			"else under the trace of the HTTP request",
			request{headers: header, method: "server/discover"},
			"server/discover", inHeader,
			map[string]string{"mcp.method.name": "server/discover"},
			false,
		}, {
			"else under a new one",
			request{meta: `"traceparent":"garbage"`},
			"tools/call echo", "",
			map[string]string{"gen_ai.tool.name": "echo"},
			false,
		}, {
			"a name that is no tool names nothing",
			request{params: `"name":"no_such"`},
			"tools/call", "",
			map[string]string{
				"gen_ai.tool.name": "", "sallyport.reason": "TOOL_UNKNOWN", "error.type": "TOOL_UNKNOWN", "rpc.response.status_code": "-32602",
			},
			false,
		}, {
			"nor does a method that is not served",
			request{method: "no/such"},
			"_OTHER", "",
			map[string]string{"mcp.method.name": "_OTHER", "sallyport.reason": "METHOD_UNKNOWN"},
			false,
		}, {
			"a request that was not even read",
			request{headers: map[string]string{"Authorization": ""}},
			"mcp", "",
			map[string]string{"sallyport.reason": "UNAUTHENTICATED", "error.type": "UNAUTHENTICATED"},
			false,
		}, {
			"a refusal of a call",
			request{params: `"name":"summarize_logs"`},
			"tools/call summarize_logs", "",
			map[string]string{
				"gen_ai.tool.name": "summarize_logs", "sallyport.reason": "QUOTA_EXCEEDED", "sallyport.decision.id": id,
			},
			false,
		}, {
			"a tool that failed",
			request{params: `"name":"says_no"`},
			"tools/call says_no", "",
			map[string]string{"error.type": "tool_error"},
			false,
		}, {
			"a failure of ours",
			request{token: "auth-down"},
			"mcp", "",
			map[string]string{"error.type": "DEPENDENCY_UNAVAILABLE"},
			true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spans := tracetest.NewInMemoryExporter()
			provider := trace.NewTracerProvider(trace.WithSyncer(spans))
			w := newWorld(t, func(o *edge.Options) { o.Tracer = provider.Tracer("edge") })
			w.send(t, tt.request)
			var got tracetest.SpanStub
			for got.Name == "" { // the span ends after the answer
				w.send(t, request{method: "server/discover"})
				for _, s := range spans.GetSpans() {
					if s.Name != "authenticate" {
						got = s
						break
					}
				}
			}
			if tt.trace == inMeta && (len(got.Links) != 1 || spans.GetSpans()[0].SpanContext.TraceID() != got.Links[0].SpanContext.TraceID()) {
				t.Errorf("got links %v, want one to the authentication", got.Links)
			}
			if got.Name != tt.span {
				t.Errorf("got span %q, want %q", got.Name, tt.span)
			}
			if id := got.SpanContext.TraceID().String(); tt.trace != "" && id != tt.trace || tt.trace == "" && got.Parent.IsValid() {
				t.Errorf("got trace %s under %v, want %q", id, got.Parent.SpanID(), tt.trace)
			}
			attrs := make(map[string]string)
			for _, a := range got.Attributes {
				attrs[string(a.Key)] = a.Value.String()
			}
			for name, want := range tt.want {
				if attrs[name] != want {
					t.Errorf("got %s %q, want %q", name, attrs[name], want)
				}
			}
			if attrs["client.address"] != "127.0.0.1" {
				t.Errorf("got client.address %q", attrs["client.address"])
			}
			if got.Status.Code.String() == "Error" != tt.failed {
				t.Errorf("got status %v, want failed %v", got.Status, tt.failed)
			}
		})
	}
}

// Callers cannot make new series: names that are not tools or methods of ours
// are one.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	w := newWorld(t, func(o *edge.Options) { o.Meter = provider.Meter("edge") })
	for _, q := range []request{
		{},
		{},
		{params: `"name":"no_such_1"`},
		{params: `"name":"no_such_2"`},
		{method: "no/such_1"},
		{method: "no/such_2"},
		{params: `"name":"says_no"`},
		{token: "bad"},
		{token: "auth-down"},
	} {
		w.send(t, q)
	}
	w.stop(t) // the last request has been counted then
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]uint64)
	for _, m := range data.ScopeMetrics[0].Metrics {
		if m.Name == "sallyport.edge.checks_leased" { // one series
			continue
		}
		h, ok := m.Data.(metricdata.Histogram[float64])
		if !ok || m.Name != "mcp.server.operation.duration" || m.Unit != "s" {
			t.Fatalf("got metric %s (%s) of type %T", m.Name, m.Unit, m.Data)
		}
		for _, p := range h.DataPoints {
			attrs := make(map[string]string)
			for _, a := range p.Attributes.ToSlice() {
				attrs[string(a.Key)] = a.Value.String()
			}
			key := ""
			for _, name := range slices.Sorted(maps.Keys(attrs)) {
				key += attrs[name] + " "
			}
			got[key] = p.Count
		}
	}
	want := map[string]uint64{
		"echo tools/call ok ": 2, "_OTHER tools/call refused ": 2, "_OTHER refused ": 2,
		"says_no tools/call tool_error ": 1, "mcp refused ": 1, "mcp failed ": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}
