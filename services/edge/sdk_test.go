package edge_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// withKey adds a credential to each request.
type withKey struct{}

func (withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer good")
	return http.DefaultTransport.RoundTrip(r)
}

// connect is a client of the Go SDK in the legacy era.
func connect(t *testing.T, w *world, by http.RoundTripper, o *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, o)
	s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: w.url + "/mcp", HTTPClient: &http.Client{Transport: by},
	}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if !strings.HasPrefix(s.ID(), "s1.") {
		t.Errorf("got session %q", s.ID())
	}
	return s
}

func TestTheGoSDKIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := connect(t, w, withKey{}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Anna"}}, nil
		},
	})
	r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "asks_form"})
	if err != nil {
		t.Fatal(err)
	}
	text := r.Content[0].(*mcp.TextContent).Text
	if !strings.Contains(text, `"name":"Anna"`) {
		t.Errorf("got %s, want the answer in it", text)
	}
}

func TestTheGoSDKCancels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.executor.begun, w.executor.ended, w.executor.release = make(chan struct{}, 1), make(chan error, 1), make(chan struct{})
	s := connect(t, w, withKey{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-w.executor.begun
		cancel()
	}()
	if _, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "waits"}); !errors.Is(err, context.Canceled) {
		t.Errorf("CallTool: got error %v", err)
	}
	if err := <-w.executor.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the tool ended with %v, want it cancelled", err)
	}
	if err := s.Ping(t.Context(), nil); err != nil {
		t.Errorf("the session after that: %v", err)
	}
}

func TestTheGoSDKHearsOfChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t).watched(t)
	heard := make(chan string, 8)
	connect(t, w, withKey{}, &mcp.ClientOptions{
		ToolListChangedHandler:   func(context.Context, *mcp.ToolListChangedRequest) { heard <- "tools" },
		PromptListChangedHandler: func(context.Context, *mcp.PromptListChangedRequest) { heard <- "prompts" },
	})
	w.listening(t, 1)
	w.change(t, "v2", tool("new", toolv1.Risk_RISK_READ))
	if got := <-heard; got != "tools" {
		t.Errorf("got %s", got)
	}
	w.tell(t, &executorv1.WatchResponse{PromptsChanged: true})
	select {
	case got := <-heard:
		if got != "prompts" {
			t.Errorf("got %s", got)
		}
	case <-time.After(patience):
		t.Error("nothing is heard")
	}
}

// answersTwice sends each answer of a client once more, before the client does.
type answersTwice struct{ statuses chan int }

func (a answersTwice) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		return withKey{}.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	send := func() (*http.Response, error) {
		r := r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		return withKey{}.RoundTrip(r)
	}
	if !bytes.Contains(body, []byte(`"action":"accept"`)) {
		return send()
	}
	first, err := send()
	if err != nil {
		return nil, err
	}
	_ = first.Body.Close()
	second, err := send()
	if err != nil {
		return nil, err
	}
	a.statuses <- first.StatusCode
	a.statuses <- second.StatusCode
	return second, nil
}

// An answer that nobody waits for costs the client nothing but the answer. It
// would be the end of its session if the refusal had no id.
func TestTheGoSDKSurvivesAnAnswerThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	statuses := make(chan int, 2)
	s := connect(t, w, answersTwice{statuses}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept"}, nil
		},
	})
	if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "asks_form"}); err != nil {
		t.Errorf("CallTool: %v", err)
	}
	if first, second := <-statuses, <-statuses; first != http.StatusAccepted || second != http.StatusBadRequest {
		t.Errorf("the answers: got %d and %d, want 202 and 400", first, second)
	}
	if err := s.Ping(t.Context(), nil); err != nil {
		t.Errorf("the session after that: %v", err)
	}
}
