package executor_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor"
)

// A service that fails is left alone for a while, and nobody else notices.
func TestServiceThatFailsIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) {
		c.Isolation.Breaker.MinCalls, c.Isolation.Breaker.Window, c.Isolation.Breaker.Rest = 4, time.Hour, 200*time.Millisecond
	})
	var ill atomic.Bool
	var calls atomic.Int32
	ill.Store(true)
	s.basics(basics{echo: func(_ context.Context, text string) (string, error) {
		calls.Add(1)
		if ill.Load() {
			return "", errors.New("boom")
		}
		return text, nil
	}}.register)
	s.provide("other", "1", &fake{call: plays(resultEvent(textResult("x"))), tools: []*providerv1.ToolDefinition{definition("t")}}, "add_numbers", "echo", "t")
	for range 4 {
		if no := s.last(t, granted(t, "echo", `{"text":"x"}`)).GetResult().GetRefusal(); no.GetReason() != auditv1.Reason_REASON_TOOL_ERROR {
			t.Fatalf("Call refuses with %v", no)
		}
	}
	no := s.last(t, granted(t, "echo", `{"text":"x"}`)).GetResult().GetRefusal()
	if no.GetReason() != auditv1.Reason_REASON_TOOL_UNAVAILABLE || !no.GetRetryable() || no.GetRetryAfter().AsDuration() <= 0 || !strings.Contains(no.GetMessage(), "is left alone for a while") || calls.Load() != 4 {
		t.Errorf("Call refuses with %v after %d calls", no, calls.Load())
	}
	if got := s.last(t, granted(t, "t", `{}`)).GetResult(); got.GetRefusal() != nil {
		t.Errorf("another service's tool: %v", got)
	}
	s.untilLogged("a service fails too often and is left alone")
	ill.Store(false)
	for well := 0; well < 3; {
		if s.last(t, granted(t, "echo", `{"text":"x"}`)).GetResult().GetRefusal() == nil {
			well++
		}
	}
	s.untilLogged("a service is well again")
}

// What a tool says to its caller is no failure of its service, however often.
func TestToolThatSaysNoIsNotLeftAlone(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *executor.Config) { c.Isolation.Breaker.MinCalls = 2 })
	s.provide("other", "1", &fake{call: plays(resultEvent(&providerv1.ToolResult{IsError: true})), tools: []*providerv1.ToolDefinition{definition("t")}}, "t")
	for range 20 {
		if got := s.last(t, granted(t, "t", `{}`)).GetResult(); got.GetRefusal() != nil {
			t.Fatalf("Call = %v", got)
		}
	}
}
