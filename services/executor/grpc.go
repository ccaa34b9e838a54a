package executor

import (
	"cmp"
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
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

// ListResources implements [executorv1.ExecutorServiceServer].
func (s *Service) ListResources(ctx context.Context, req *executorv1.ListResourcesRequest) (*executorv1.ListResourcesResponse, error) {
	if _, err := s.admit(ctx, req.GetGrant(), authv1.Action_ACTION_RESOURCES_LIST, ""); err != nil {
		return nil, err
	}
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	return &executorv1.ListResourcesResponse{Resources: snap.Resources, Templates: snap.Templates}, nil
}

// ListPrompts implements [executorv1.ExecutorServiceServer].
func (s *Service) ListPrompts(ctx context.Context, req *executorv1.ListPromptsRequest) (*executorv1.ListPromptsResponse, error) {
	if _, err := s.admit(ctx, req.GetGrant(), authv1.Action_ACTION_PROMPTS_LIST, ""); err != nil {
		return nil, err
	}
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	return &executorv1.ListPromptsResponse{Prompts: snap.Prompts}, nil
}

// ReadResource implements [executorv1.ExecutorServiceServer].
func (s *Service) ReadResource(ctx context.Context, req *executorv1.ReadResourceRequest) (*executorv1.ReadResourceResponse, error) {
	a := asking{action: authv1.Action_ACTION_RESOURCES_READ, target: req.GetUri(), grant: req.GetGrant(), round: req.GetRound(), what: "resource"}
	out := &executorv1.ReadResourceResponse{}
	end, err := s.ask(ctx, a, func(snap *catalogue.Snapshot) (*catalogue.Source, error) {
		return snap.Resource(req.GetUri()), nil
	}, func(ctx context.Context, to provider.Client, who *authv1.Principal, round *providerv1.Round) (answer, error) {
		resp, err := to.Read(ctx, &providerv1.ReadResourceRequest{Uri: req.GetUri(), Principal: who, Round: round})
		out.Response = resp
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	out.Provenance, out.Guards = end.from, end.acted
	return out, nil
}

// GetPrompt implements [executorv1.ExecutorServiceServer].
func (s *Service) GetPrompt(ctx context.Context, req *executorv1.GetPromptRequest) (*executorv1.GetPromptResponse, error) {
	a := asking{action: authv1.Action_ACTION_PROMPTS_GET, target: req.GetName(), grant: req.GetGrant(), round: req.GetRound(), what: "prompt"}
	out := &executorv1.GetPromptResponse{}
	var prompt *catalogue.Prompt
	end, err := s.ask(ctx, a, func(snap *catalogue.Snapshot) (*catalogue.Source, error) {
		if prompt = snap.Prompt(req.GetName()); prompt == nil {
			return nil, nil
		}
		if missing := prompt.Missing(req.GetArguments()); len(missing) > 0 {
			return nil, badArguments("the prompt needs the arguments " + printable(strings.Join(missing, ", ")))
		}
		return prompt.Source, nil
	}, func(ctx context.Context, to provider.Client, who *authv1.Principal, round *providerv1.Round) (answer, error) {
		resp, err := to.Prompt(ctx, &providerv1.GetPromptRequest{
			Name: prompt.Remote, Arguments: req.GetArguments(), Principal: who, Round: round,
		})
		out.Response = resp
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	out.Provenance, out.Guards = end.from, end.acted
	return out, nil
}

// Complete implements [executorv1.ExecutorServiceServer]. A provider that has no
// completion has no suggestions.
func (s *Service) Complete(ctx context.Context, req *executorv1.CompleteRequest) (*executorv1.CompleteResponse, error) {
	asked := req.GetRequest()
	remote := &providerv1.CompleteRequest{
		Prompt: asked.GetPrompt(), UriTemplate: asked.GetUriTemplate(), Argument: asked.GetArgument(), Value: asked.GetValue(), Context: asked.GetContext(),
	}
	a := asking{
		action: authv1.Action_ACTION_COMPLETE, target: cmp.Or(asked.GetPrompt(), asked.GetUriTemplate()), grant: req.GetGrant(),
		what: "prompt or resource template", quiet: true,
	}
	out := &executorv1.CompleteResponse{Response: &providerv1.CompleteResponse{}}
	completes := true
	_, err := s.ask(ctx, a, func(snap *catalogue.Snapshot) (source *catalogue.Source, err error) {
		source, remote.Prompt, err = completion(snap, asked)
		completes = source == nil || source.Completion
		return source, err
	}, func(ctx context.Context, to provider.Client, who *authv1.Principal, _ *providerv1.Round) (answer, error) {
		if !completes {
			return nil, nil
		}
		remote.Principal = who
		resp, err := to.Complete(ctx, remote)
		out.Response = resp
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// completion finds who can complete an argument, and the name of the prompt
// there.
func completion(snap *catalogue.Snapshot, asked *providerv1.CompleteRequest) (*catalogue.Source, string, error) {
	const text = "there is no such argument to complete"
	if (asked.GetPrompt() == "") == (asked.GetUriTemplate() == "") {
		return nil, "", badArguments("either a prompt or a resource template has to be named")
	}
	// Auth tells templates from prompts by the brace. No prompt can join with one in
	// its name, and no template without one has a variable.
	if asked.GetPrompt() != "" {
		p := snap.Prompt(asked.GetPrompt())
		switch {
		case p == nil:
			return nil, "", nil
		case !p.Argument(asked.GetArgument()):
			return nil, "", badArguments(text)
		}
		return p.Source, p.Remote, nil
	}
	t := snap.Template(asked.GetUriTemplate())
	switch {
	case t == nil:
		return nil, "", nil
	case !t.Variable(asked.GetArgument()):
		return nil, "", badArguments(text)
	}
	return t.Source, "", nil
}

func badArguments(text string) error {
	return fault.New(codes.InvalidArgument, executorv1.Reason_REASON_ARGUMENTS, "%s", text)
}

func unknown(what string) error {
	return fault.New(codes.NotFound, executorv1.Reason_REASON_UNKNOWN, "there is no such %s", what)
}
