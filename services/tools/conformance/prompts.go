package conformance

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

const (
	simplePrompt    = "test_simple_prompt"
	argumentsPrompt = "test_prompt_with_arguments"
	resourcePrompt  = "test_prompt_with_embedded_resource"
	imagePrompt     = "test_prompt_with_image"
	askingPrompt    = "test_input_required_result_prompt"
)

// prompts returns those that are listed now.
func (p *Provider) prompts() []*providerv1.Prompt {
	all := []*providerv1.Prompt{
		{Name: simplePrompt, Title: "Simple prompt", Description: "A prompt without arguments."},
		{Name: argumentsPrompt, Title: "Prompt with arguments", Description: "A prompt with two arguments.", Arguments: []*providerv1.PromptArgument{
			{Name: "arg1", Description: "First test argument.", Required: true},
			{Name: "arg2", Description: "Second test argument.", Required: true},
		}},
		{Name: resourcePrompt, Title: "Prompt with a resource", Description: "A prompt that holds a resource.", Arguments: []*providerv1.PromptArgument{
			{Name: "resourceUri", Description: "URI of the resource to embed.", Required: true},
		}},
		{Name: imagePrompt, Title: "Prompt with an image", Description: "A prompt that holds an image."},
		{Name: askingPrompt, Title: "Prompt that asks", Description: "A prompt that asks the user for something first."},
	}
	if m, _ := p.lists.look(); m.hasPrompt() {
		all = append(all, &providerv1.Prompt{Name: changingPrompt, Description: "Is listed after every other change."})
	}
	return all
}

// ListPrompts implements [providerv1.ProviderServiceServer].
func (p *Provider) ListPrompts(context.Context, *providerv1.ListPromptsRequest) (*providerv1.ListPromptsResponse, error) {
	return &providerv1.ListPromptsResponse{Prompts: p.prompts()}, nil
}

// GetPrompt implements [providerv1.ProviderServiceServer].
func (p *Provider) GetPrompt(_ context.Context, req *providerv1.GetPromptRequest) (*providerv1.GetPromptResponse, error) {
	prompt := p.prompt(req.GetName())
	if prompt == nil {
		return nil, fault.New(codes.NotFound, providerv1.Reason_REASON_UNKNOWN, "there is no such prompt")
	}
	args := req.GetArguments()
	for _, a := range prompt.GetArguments() {
		if _, ok := args[a.GetName()]; !ok && a.GetRequired() {
			return nil, fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS, "the argument %s is missing", a.GetName())
		}
	}
	switch prompt.GetName() {
	case simplePrompt:
		return messages(prompt, textContent("This is a simple prompt for testing."))
	case argumentsPrompt:
		return messages(prompt, textContent(fmt.Sprintf("Prompt with arguments: arg1='%s', arg2='%s'", args["arg1"], args["arg2"])))
	case resourcePrompt:
		const most = 2048 // of a URI, by the contract
		if len(args["resourceUri"]) > most {
			return nil, fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS, "resourceUri is longer than %d bytes", most)
		}
		return messages(prompt,
			resourceContent(textResource(args["resourceUri"], "text/plain", "Embedded resource content for testing.")),
			textContent("Please process the embedded resource above."))
	case imagePrompt:
		return messages(prompt, imageContent(), textContent("Please analyze the image above."))
	case askingPrompt:
		return askForContext(prompt, req.GetRound())
	}
	return messages(prompt, textContent("This prompt is listed now."))
}

func (p *Provider) prompt(name string) *providerv1.Prompt {
	for _, prompt := range p.prompts() {
		if prompt.GetName() == name {
			return prompt
		}
	}
	return nil
}

// messages answers with what a user says.
func messages(p *providerv1.Prompt, said ...*providerv1.Content) (*providerv1.GetPromptResponse, error) {
	resp := &providerv1.GetPromptResponse{Description: p.GetDescription()}
	for _, c := range said {
		resp.Messages = append(resp.Messages, &providerv1.PromptMessage{Role: "user", Content: c})
	}
	return resp, nil
}

func askForContext(p *providerv1.Prompt, round *providerv1.Round) (*providerv1.GetPromptResponse, error) {
	a, err := parseAnswers(round.GetInputResponses())
	if err != nil {
		return nil, err
	}
	if given, ok := a.elicited("user_context", "context"); ok {
		return messages(p, textContent("Use this context: "+given.text("context")))
	}
	in, err := inputRequired(nil, elicit("user_context", "What context should the prompt use?", oneField("context", "string")))
	return &providerv1.GetPromptResponse{InputRequired: in}, err
}

// Complete implements [providerv1.ProviderServiceServer].
func (p *Provider) Complete(_ context.Context, req *providerv1.CompleteRequest) (*providerv1.CompleteResponse, error) {
	var known []string
	switch {
	case req.GetPrompt() == argumentsPrompt && (req.GetArgument() == "arg1" || req.GetArgument() == "arg2"):
		known = []string{"paris", "park", "party", "test", "testValue1", "testValue2"}
	case req.GetUriTemplate() == templateURI && req.GetArgument() == "id":
		known = []string{"1", "12", "123"}
	case p.prompt(req.GetPrompt()) == nil && req.GetUriTemplate() != templateURI:
		return nil, fault.New(codes.NotFound, providerv1.Reason_REASON_UNKNOWN, "there is no such prompt or template")
	}
	resp := new(providerv1.CompleteResponse)
	for _, value := range known {
		if strings.HasPrefix(value, req.GetValue()) {
			resp.Values = append(resp.Values, value)
		}
	}
	resp.Total = uint32(len(resp.GetValues()))
	return resp, nil
}
