//go:build e2e

package e2e_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sallyport-mcp/sallyport/services/sallyport/e2e/launch"
)

// TestTrace makes one call in a client's trace and expects that trace to hold a
// span of every service that took part, each in a process of its own, down to
// the audit service that was told over NATS.
func TestTrace(t *testing.T) {
	receiver, endpoint := startSink(t)
	ready := start(t, launch.Options{
		Args: []string{"--processes"},
		Env: []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint,
			"OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
			"OTEL_EXPORTER_OTLP_INSECURE=true",
			"OTEL_BSP_SCHEDULE_DELAY=100",
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	id, parent := fmt.Sprintf("%x", random(16)), fmt.Sprintf("%x", random(8))
	call(ctx, t, ready, "00-"+id+"-"+parent+"-01")

	services := []string{"sallyport-edge", "sallyport-auth", "sallyport-quota", "sallyport-executor", "sallyport-basics", "sallyport-audit"}
	for {
		spans := receiver.trace(id)
		lacking := judge(spans, parent, services)
		if lacking == nil {
			fmt.Fprintf(os.Stdout, "\ntrace %s\n%s", id, picture(spans, parent))
			return
		}
		select {
		case <-receiver.more:
		case <-ctx.Done():
			t.Fatalf("the trace is not whole: %v\n%s", lacking, picture(spans, parent))
		}
	}
}

// call calls echo as a client that is being traced.
func call(ctx context.Context, t *testing.T, ready launch.Ready, traceparent string) {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e-trace", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:   ready.MCPURL,
		HTTPClient: &http.Client{Transport: headers{instruction{Key: ready.Keys.Analyst}}},
		MaxRetries: -1,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }() // the answer is what counts
	got, err := session.CallTool(ctx, &mcp.CallToolParams{
		Meta: mcp.Meta{"traceparent": traceparent}, Name: "echo", Arguments: map[string]any{"text": "traced"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.IsError {
		t.Fatalf("echo: got an error %v", got.Content)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// judge says what keeps spans from being one tree under the client's span with
// all services in it.
func judge(spans []span, parent string, services []string) error {
	known := make(map[string]bool)
	for _, s := range spans {
		known[s.id] = true
	}
	var errs []error
	roots := 0
	for _, s := range spans {
		switch {
		case s.parent == parent:
			roots++
		case !known[s.parent]:
			errs = append(errs, fmt.Errorf("%s %q: its parent %q is not in the trace", s.service, s.name, s.parent))
		}
	}
	if roots != 1 {
		errs = append(errs, fmt.Errorf("got %d spans under the client's, want 1", roots))
	}
	for _, service := range services {
		if !slices.ContainsFunc(spans, func(s span) bool { return s.service == service }) {
			errs = append(errs, fmt.Errorf("no span of %s", service))
		}
	}
	return errors.Join(errs...)
}

// picture draws the tree: when each span began, how long it took, whose it is.
func picture(spans []span, parent string) string {
	var b strings.Builder
	if len(spans) == 0 {
		return "(no spans)\n"
	}
	zero := spans[0].start
	drawn := make(map[string]bool)
	var draw func(parent string, depth int)
	line := func(s span, depth int) {
		drawn[s.id] = true
		fmt.Fprintf(&b, "%8d µs %8d µs  %-20s %s%s\n", s.start.Sub(zero).Microseconds(), s.end.Sub(s.start).Microseconds(),
			s.service, strings.Repeat("  ", depth), s.name)
	}
	draw = func(parent string, depth int) {
		for _, s := range spans {
			if s.parent == parent && !drawn[s.id] {
				line(s, depth)
				draw(s.id, depth+1)
			}
		}
	}
	draw(parent, 0)
	for _, s := range spans {
		if !drawn[s.id] {
			line(s, 0)
			draw(s.id, 1)
		}
	}
	return b.String()
}
