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
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:   in.URL,
		HTTPClient: &http.Client{Transport: headers{in}},
		MaxRetries: -1,
	}, &mcp.ClientSessionOptions{ProtocolVersion: g.revision})
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = session.Close() }() // the answer is what counts
	out := outcome{Protocol: session.InitializeResult().ProtocolVersion}
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
	if in.Op == opCall {
		// Without arguments this client sends null, which the edge has to take.
		answer, err := session.CallTool(ctx, &mcp.CallToolParams{Name: in.Tool, Arguments: in.Arguments})
		if err != nil {
			return outcome{}, err
		}
		b, err := json.Marshal(answer)
		if err != nil {
			return outcome{}, err
		}
		return out, json.Unmarshal(b, &out.Result)
	}
	return out, nil
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
