package executor

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	executorv1.RegisterExecutorServiceServer(r, s)
}

// ListTools implements [executorv1.ExecutorServiceServer].
func (s *Service) ListTools(_ context.Context, req *executorv1.ListToolsRequest) (*executorv1.ListToolsResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	resp := &executorv1.ListToolsResponse{Version: snap.View}
	if req.GetKnownVersion() == snap.View {
		return resp, nil
	}
	for i, e := range snap.Tools {
		resp.Tools = append(resp.Tools, &executorv1.Tool{
			Definition: e.Definition, Service: e.Service, Digest: e.Digest, Available: snap.Available[i],
		})
	}
	return resp, nil
}

// Watch implements [executorv1.ExecutorServiceServer]. Where the tools are not
// loaded yet the first message waits for them.
func (s *Service) Watch(_ *executorv1.WatchRequest, stream grpc.ServerStreamingServer[executorv1.WatchResponse]) error {
	for told := ""; ; {
		snap := s.catalogue.Current() // before the question below, not to miss the news
		if s.catalogue.Loaded() == nil && snap.View != told {
			if err := stream.Send(&executorv1.WatchResponse{ToolsVersion: snap.View}); err != nil {
				return err
			}
			told = snap.View
		}
		select {
		case <-snap.Superseded():
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// No provider of resources, prompts or completion can join yet, so the lists
// are empty and everything asked for by name is unknown. A grant is wanted all
// the same: who may ask is not for the answer to decide.

// ListResources implements [executorv1.ExecutorServiceServer].
func (s *Service) ListResources(ctx context.Context, req *executorv1.ListResourcesRequest) (*executorv1.ListResourcesResponse, error) {
	if err := s.admit(ctx, req.GetGrant(), authv1.Action_ACTION_RESOURCES_LIST, ""); err != nil {
		return nil, err
	}
	return &executorv1.ListResourcesResponse{}, nil
}

// ReadResource implements [executorv1.ExecutorServiceServer].
func (s *Service) ReadResource(ctx context.Context, req *executorv1.ReadResourceRequest) (*executorv1.ReadResourceResponse, error) {
	if err := s.admit(ctx, req.GetGrant(), authv1.Action_ACTION_RESOURCES_READ, req.GetUri()); err != nil {
		return nil, err
	}
	return nil, unknown("resource")
}

// ListPrompts implements [executorv1.ExecutorServiceServer].
func (s *Service) ListPrompts(ctx context.Context, req *executorv1.ListPromptsRequest) (*executorv1.ListPromptsResponse, error) {
	if err := s.admit(ctx, req.GetGrant(), authv1.Action_ACTION_PROMPTS_LIST, ""); err != nil {
		return nil, err
	}
	return &executorv1.ListPromptsResponse{}, nil
}

// GetPrompt implements [executorv1.ExecutorServiceServer].
func (s *Service) GetPrompt(ctx context.Context, req *executorv1.GetPromptRequest) (*executorv1.GetPromptResponse, error) {
	if err := s.admit(ctx, req.GetGrant(), authv1.Action_ACTION_PROMPTS_GET, req.GetName()); err != nil {
		return nil, err
	}
	return nil, unknown("prompt")
}

// Complete implements [executorv1.ExecutorServiceServer].
func (s *Service) Complete(ctx context.Context, req *executorv1.CompleteRequest) (*executorv1.CompleteResponse, error) {
	target := req.GetRequest().GetPrompt()
	if target == "" {
		target = req.GetRequest().GetUriTemplate()
	}
	if err := s.admit(ctx, req.GetGrant(), authv1.Action_ACTION_COMPLETE, target); err != nil {
		return nil, err
	}
	return nil, unknown("prompt or resource template")
}

func unknown(what string) error {
	return fault.New(codes.NotFound, executorv1.Reason_REASON_UNKNOWN, "there is no such %s", what)
}
