// Package conformance is a provider with what the official MCP conformance suite
// expects a server to have: tools, resources, prompts and completions with set
// answers, tools that ask the client for something first, and lists that change.
//
// It is for tests. It reaches nothing, and what a call can change is only what
// this provider lists itself, so all its tools count as reading. It is a program
// of its own, conformanced, and in no other.
package conformance

import (
	"context"
	"crypto/rand"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// Provider has the fixtures. Use [New]; the zero value has no name for itself.
type Provider struct {
	providerv1.UnimplementedProviderServiceServer

	instance string // tells replicas apart, in states
	lists    lists
	ended    chan struct{}
}

// New returns a provider with the lists as they are before any change.
func New() *Provider {
	return &Provider{instance: rand.Text(), lists: lists{changed: make(chan struct{})}, ended: make(chan struct{})}
}

// Register adds the provider to a server.
func (p *Provider) Register(r grpc.ServiceRegistrar) { providerv1.RegisterProviderServiceServer(r, p) }

// Run waits for ctx to end, and then ends all watches, which would otherwise hold
// up the server. Call it once.
func (p *Provider) Run(ctx context.Context) error {
	<-ctx.Done()
	close(p.ended)
	return nil
}

// fixture is a tool. play returns what ends the call.
type fixture struct {
	name, description string
	schema            string // of the arguments
	play              func(*call) (*providerv1.CallToolResponse, error)
}

// fixtures returns the tools that are listed now, by subject; the executor sorts
// them.
func (p *Provider) fixtures() []fixture {
	all := append(contentFixtures(), eventFixtures()...)
	all = append(all, schemaFixtures()...)
	all = append(all, conversationFixtures()...)
	all = append(all, roundFixtures()...)
	all = append(all, p.changeFixtures()...)
	return all
}

// ListTools implements [providerv1.ProviderServiceServer].
func (p *Provider) ListTools(context.Context, *providerv1.ListToolsRequest) (*providerv1.ListToolsResponse, error) {
	resp := new(providerv1.ListToolsResponse)
	for _, f := range p.fixtures() {
		resp.Tools = append(resp.Tools, &providerv1.ToolDefinition{
			Name: f.name, Description: f.description, InputSchema: []byte(f.schema),
			Options: &toolv1.Tool{
				Risk: toolv1.Risk_RISK_READ, Trust: toolv1.Trust_TRUST_TRUSTED, Sensitivity: toolv1.Sensitivity_SENSITIVITY_PUBLIC,
			},
		})
	}
	return resp, nil
}

// CallTool implements [providerv1.ProviderServiceServer].
func (p *Provider) CallTool(req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
	for _, f := range p.fixtures() {
		if f.name != req.GetName() {
			continue
		}
		answers, err := parseAnswers(req.GetRound().GetInputResponses())
		if err != nil {
			return err
		}
		last, err := f.play(&call{provider: p, req: req, stream: stream, answers: answers})
		if err != nil {
			return err
		}
		return stream.Send(last)
	}
	return fault.New(codes.NotFound, providerv1.Reason_REASON_UNKNOWN, "there is no such tool")
}
