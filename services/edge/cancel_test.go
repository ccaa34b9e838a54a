package edge_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/edge"
)

// waiting starts a call of a tool that waits until it is cancelled.
func (w *world) waiting(t *testing.T, c *client, id string, headers ...string) (answered <-chan answer) {
	t.Helper()
	if w.executor.begun == nil {
		w.executor.begun, w.executor.ended, w.executor.release = make(chan struct{}, 1), make(chan error, 1), make(chan struct{})
	}
	q := c.request(request{body: `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"waits"}}`})
	for i := 0; i+1 < len(headers); i += 2 {
		q.headers[headers[i]] = headers[i+1]
	}
	came := make(chan answer, 1)
	r := q.http(t, w.url)
	go func() { came <- do(t, r) }()
	<-w.executor.begun
	return came
}

func cancellation(id string) string {
	return `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `,"reason":"changed my mind"}}`
}

func TestAClientCancelsItsCall(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, id, cancels, accept string
		streamAfter               time.Duration
		want                      string
	}{
		{"before there is a stream", "1", "1", "application/json, text/event-stream", time.Hour, ""},
		{"when there is a stream", "1", "1", "application/json, text/event-stream", time.Millisecond, ""},
		{"by text", `"a"`, `"a"`, "application/json, text/event-stream", time.Hour, ""},
		{"by text that is written in another way", `"a"`, `"\u0061"`, "application/json, text/event-stream", time.Hour, ""},
		{"without reading streams", "1", "1", "application/json", time.Hour, `"code":-31499`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *edge.Options) { o.Config.StreamAfter = tt.streamAfter })
			c := w.initialize(t, `{}`)
			answered := w.waiting(t, c, tt.id, "Accept", tt.accept)
			if a := c.post(t, cancellation(tt.cancels)); a.status != http.StatusAccepted || len(a.body) > 0 {
				t.Errorf("the cancellation: got %d %s, want 202 and nothing", a.status, a.body)
			}
			if err := <-w.executor.ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the tool ended with %v, want it cancelled", err)
			}
			a := <-answered
			body := strings.ReplaceAll(string(a.body), ": waiting\n\n", "")
			if a.status != http.StatusOK || (tt.want == "" && body != "") || !strings.Contains(body, tt.want) {
				t.Errorf("the call: got %d %q, want 200 and %q", a.status, body, tt.want)
			}
			if tt.want == "" && a.header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("the call: got a body of type %q, want an event stream that ends", a.header.Get("Content-Type"))
			}
			// The executor has it on record.
			if events := w.audit.take(); len(events) > 0 {
				t.Errorf("recorded %v, want nothing", events)
			}
		})
	}
}

func TestWhatDoesNotCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.initialize(t, `{}`)
	answered := w.waiting(t, c, "1")
	other, bobs := w.initialize(t, `{}`), w.initialize(t, `{}`, func(c *client) { c.token = "bobs" })
	stolen := *c
	stolen.token = "bobs"
	tests := []struct {
		name   string
		client *client
		body   string
		want   int
	}{
		{"another session of the same client", other, cancellation("1"), http.StatusAccepted},
		{"a session of another principal", bobs, cancellation("1"), http.StatusAccepted},
		{"another principal with this session", &stolen, cancellation("1"), http.StatusNotFound},
		{"no session", &client{w: w, version: "2025-11-25", token: "good"}, cancellation("1"), http.StatusAccepted},
		{"another request", c, cancellation("2"), http.StatusAccepted},
		{"text instead of a number", c, cancellation(`"1"`), http.StatusAccepted},
		{"nothing", c, `{"jsonrpc":"2.0","method":"notifications/cancelled"}`, http.StatusAccepted},
	}
	for _, tt := range tests {
		q := tt.client.request(request{body: tt.body})
		if tt.client.session == "" {
			q.headers["Mcp-Session-Id"] = ""
		}
		if a := w.send(t, q); a.status != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, a.status, a.body, tt.want)
		}
	}
	select {
	case err := <-w.executor.ended:
		t.Errorf("the call ended with %v", err)
	default:
	}
	c.post(t, cancellation("1"))
	<-answered
	if err := <-w.executor.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the tool ended with %v, want it cancelled in the end", err)
	}
}

// A call that waits for a person is cancelled as well, and that is on record,
// since no other service is at work on it then.
func TestAQuestionIsCancelledWithItsCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.initialize(t, everything)
	stream := c.call(t, "asks_form")
	asked := stream.message(t)
	if a := c.post(t, cancellation("1")); a.status != http.StatusAccepted {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	withdrawn := stream.message(t)
	if withdrawn.Method != "notifications/cancelled" || !strings.Contains(string(withdrawn.Params), string(asked.ID)) {
		t.Errorf("got %s %s, want the question withdrawn", withdrawn.Method, withdrawn.Params)
	}
	if rest := stream.ended(t); len(rest) > 0 {
		t.Errorf("got %v, want no response", rest)
	}
	late := c.post(t, `{"jsonrpc":"2.0","id":`+string(asked.ID)+`,"result":{"action":"accept"}}`)
	if late.status != http.StatusBadRequest {
		t.Errorf("an answer after that: got %d %s, want 400", late.status, late.body)
	}
	recorded := slices.ContainsFunc(w.audit.take(), func(e *auditv1.Event) bool {
		return e.GetOutcome().GetReason() == auditv1.Reason_REASON_CANCELLED && e.GetTarget() == "asks_form"
	})
	if !recorded {
		t.Error("the end of the call is not on record")
	}
}
