package main

import (
	"context"
	"os"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	customersv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/customers/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
)

// The services of an estate that count what they are made to do: a tool service
// with the tools of the customers, and a provider.
const counterRole, listerRole = "customers", "lister"

// What the provider has.
const countedURI, countedPrompt, countedArgument = "count://one", "counted", "how"

// counter counts, and does nothing else. It serves as the one and as the other.
type counter struct {
	customersv1.UnimplementedCustomersServiceServer
	providerv1.UnimplementedProviderServiceServer

	provider bool
	done     *atomic.Int32
}

// counterRoles returns both services, which count together.
func counterRoles(t *testing.T) (tools, provider app.Role, done *atomic.Int32) {
	t.Helper()
	image, err := os.ReadFile("../tools/customers/descriptor.binpb")
	if err != nil {
		t.Fatal(err)
	}
	done = new(atomic.Int32)
	tools = toolkit.Role(counterRole, image, func(*app.Env) (app.Service, error) { return &counter{done: done}, nil })
	provider = toolkit.Provider(listerRole, func(*app.Env) (app.Service, error) { return &counter{done: done, provider: true}, nil })
	return tools, provider, done
}

func (c *counter) Register(r grpc.ServiceRegistrar) {
	if c.provider {
		providerv1.RegisterProviderServiceServer(r, c)
		return
	}
	customersv1.RegisterCustomersServiceServer(r, c)
}

func (*counter) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (c *counter) GetCustomer(_ context.Context, req *customersv1.GetCustomerRequest) (*customersv1.GetCustomerResponse, error) {
	c.done.Add(1)
	return &customersv1.GetCustomerResponse{CustomerId: req.GetCustomerId()}, nil
}

func (c *counter) DeleteCustomerAccount(_ context.Context, req *customersv1.DeleteCustomerAccountRequest) (*customersv1.DeleteCustomerAccountResponse, error) {
	c.done.Add(1)
	return &customersv1.DeleteCustomerAccountResponse{CustomerId: req.GetCustomerId(), Deleted: true}, nil
}

func (*counter) ListTools(context.Context, *providerv1.ListToolsRequest) (*providerv1.ListToolsResponse, error) {
	return &providerv1.ListToolsResponse{}, nil
}

func (*counter) ListResources(context.Context, *providerv1.ListResourcesRequest) (*providerv1.ListResourcesResponse, error) {
	return &providerv1.ListResourcesResponse{Resources: []*providerv1.Resource{{Uri: countedURI, Name: "one"}}}, nil
}

func (*counter) ListPrompts(context.Context, *providerv1.ListPromptsRequest) (*providerv1.ListPromptsResponse, error) {
	return &providerv1.ListPromptsResponse{Prompts: []*providerv1.Prompt{{
		Name: countedPrompt, Arguments: []*providerv1.PromptArgument{{Name: countedArgument}},
	}}}, nil
}

func (c *counter) ReadResource(_ context.Context, req *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
	c.done.Add(1)
	return &providerv1.ReadResourceResponse{Contents: []*providerv1.ResourceContents{{Uri: req.GetUri(), MimeType: "text/plain", Body: &providerv1.ResourceContents_Text{Text: "1"}}}}, nil
}

func (c *counter) GetPrompt(context.Context, *providerv1.GetPromptRequest) (*providerv1.GetPromptResponse, error) {
	c.done.Add(1)
	return &providerv1.GetPromptResponse{Description: "counted"}, nil
}

func (c *counter) Complete(context.Context, *providerv1.CompleteRequest) (*providerv1.CompleteResponse, error) {
	c.done.Add(1)
	return &providerv1.CompleteResponse{Values: []string{"so"}}, nil
}

func (*counter) Watch(_ *providerv1.WatchRequest, stream grpc.ServerStreamingServer[providerv1.WatchResponse]) error {
	if err := stream.Send(&providerv1.WatchResponse{HasResources: true, HasPrompts: true, HasCompletion: true}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}
