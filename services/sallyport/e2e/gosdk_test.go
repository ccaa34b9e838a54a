//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// goSDK is the official Go SDK's client. An empty revision is its default.
type goSDK struct{ revision string }

func (g goSDK) do(ctx context.Context, in instruction) (outcome, error) {
	out, err := g.perform(ctx, in)
	if err != nil {
		return outcome{Failure: &failure{Kind: "error", Message: err.Error()}}, nil
	}
	return out, nil
}

func (g goSDK) perform(ctx context.Context, in instruction) (outcome, error) {
	out := outcome{}
	told := make(chan float64, 16)
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e-go-" + in.Era, Version: "1.0.0"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada Lovelace", "integer": 7}}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			told <- r.Params.Progress
		},
	})
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:   in.URL,
		HTTPClient: &http.Client{Transport: headers{in}},
		MaxRetries: -1,
	}, &mcp.ClientSessionOptions{ProtocolVersion: g.revision})
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = session.Close() }() // the answer is what counts
	out.Protocol = session.InitializeResult().ProtocolVersion
	if in.Op == opHello {
		return out, nil
	}
	// As hosts do, also before a call.
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			return outcome{}, err
		}
		if in.Op == opList {
			out.Tools = append(out.Tools, tool.Name)
		}
	}
	if in.Op == opList {
		return out, nil
	}
	// Without arguments this client sends null, which the edge has to take.
	params := &mcp.CallToolParams{Name: in.Tool, Arguments: in.Arguments}
	if in.Op != opCall {
		params.SetProgressToken("e2e")
	}
	calling, giveUp := context.WithCancel(ctx)
	defer giveUp()
	if in.Op == opCancel {
		go func() {
			<-told
			giveUp()
		}()
	}
	answer, err := session.CallTool(calling, params)
	if err != nil {
		_, _ = session.ListTools(ctx, nil) // whatever tells the server is sent before
		return outcome{}, err
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return outcome{}, err
	}
	if in.Op == opProgress {
		_ = session.Close() // waits for its handlers
		out.Progress = drain(told)
	}
	return out, json.Unmarshal(b, &out.Result)
}

func drain(told <-chan float64) (all []float64) {
	for {
		select {
		case p := <-told:
			all = append(all, p)
		default:
			return all
		}
	}
}

// headers adds the credential and the instruction's headers to each request.
type headers struct{ in instruction }

// RoundTrip implements [http.RoundTripper].
func (h headers) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+h.in.Key)
	for name, value := range h.in.Headers {
		r.Header.Set(name, value)
	}
	return http.DefaultTransport.RoundTrip(r)
}
