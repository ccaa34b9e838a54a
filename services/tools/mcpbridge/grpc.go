package mcpbridge

import (
	"context"
	"encoding/json"
	"errors"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

// ListTools implements [providerv1.ProviderServiceServer]. Like the other lists it
// is what is known, and waits for no upstream.
func (s *Service) ListTools(context.Context, *providerv1.ListToolsRequest) (*providerv1.ListToolsResponse, error) {
	return &providerv1.ListToolsResponse{Tools: s.known.Load().tools}, nil
}

// ListResources implements [providerv1.ProviderServiceServer].
func (s *Service) ListResources(context.Context, *providerv1.ListResourcesRequest) (*providerv1.ListResourcesResponse, error) {
	c := s.known.Load()
	return &providerv1.ListResourcesResponse{Resources: c.resources, Templates: c.templates}, nil
}

// ListPrompts implements [providerv1.ProviderServiceServer].
func (s *Service) ListPrompts(context.Context, *providerv1.ListPromptsRequest) (*providerv1.ListPromptsResponse, error) {
	return &providerv1.ListPromptsResponse{Prompts: s.known.Load().prompts}, nil
}

// ReadResource implements [providerv1.ProviderServiceServer].
func (s *Service) ReadResource(ctx context.Context, req *providerv1.ReadResourceRequest) (*providerv1.ReadResourceResponse, error) {
	u := s.known.Load().reader(req.GetUri())
	if u == nil {
		return nil, unknown("resource")
	}
	r, asked, err := s.once(ctx, u, once{
		method: "resources/read", member: "uri", name: req.GetUri(), as: req.GetUri(),
		who: req.GetPrincipal().GetId(), round: req.GetRound(),
	})
	if e, ok := errors.AsType[*client.Error](err); ok {
		if e.Code == client.CodeInvalidParams || e.Code == client.CodeResourceNotFound {
			return nil, unknown("resource")
		}
		return nil, down(err)
	}
	if err != nil {
		return nil, err
	}
	if asked != nil {
		return &providerv1.ReadResourceResponse{InputRequired: asked}, nil
	}
	out, err := r.resource()
	if err != nil {
		return nil, down(err)
	}
	if len(out.GetContents()) == 0 {
		return nil, unknown("resource") // for what is not there some give nothing
	}
	return out, nil
}

// GetPrompt implements [providerv1.ProviderServiceServer].
func (s *Service) GetPrompt(ctx context.Context, req *providerv1.GetPromptRequest) (*providerv1.GetPromptResponse, error) {
	place, ok := s.known.Load().promptBy[req.GetName()]
	if !ok {
		return nil, unknown("prompt")
	}
	arguments := req.GetArguments()
	if arguments == nil {
		arguments = map[string]string{}
	}
	r, asked, err := s.once(ctx, place.by, once{
		method: "prompts/get", member: "name", name: place.it.name, as: req.GetName(),
		who: req.GetPrincipal().GetId(), round: req.GetRound(), arguments: arguments,
	})
	if e, ok := errors.AsType[*client.Error](err); ok {
		if e.Code == client.CodeInvalidParams {
			return nil, badArguments(e)
		}
		return nil, down(err)
	}
	if err != nil {
		return nil, err
	}
	if asked != nil {
		return &providerv1.GetPromptResponse{InputRequired: asked}, nil
	}
	out, err := r.prompt()
	if err != nil {
		return nil, down(err)
	}
	return out, nil
}

// once is a request that is not the call of a tool.
type once struct {
	method, member string // the parameter that names what is asked for
	name, as       string // at the upstream, and to the client
	who            string
	round          *providerv1.Round
	arguments      map[string]string // nil for none
}

// once makes it. An [*client.Error] is returned as it is; any other error is for
// the caller.
func (s *Service) once(ctx context.Context, u *upstream, o once) (result, *providerv1.InputRequired, error) {
	st, err := readState(o.round.GetState(), o.who, o.as)
	if err != nil {
		return result{}, nil, err
	}
	params := map[string]json.RawMessage{}
	if params[o.member], err = json.Marshal(o.name); err != nil {
		return result{}, nil, err
	}
	if o.arguments != nil {
		if params["arguments"], err = json.Marshal(o.arguments); err != nil {
			return result{}, nil, err
		}
	}
	if st.Kind != "" && st.Kind != modernCall {
		return result{}, nil, errState
	}
	if st.Kind == modernCall {
		if err := st.addTo(params, o.round); err != nil {
			return result{}, nil, err
		}
	}
	can := readAbilities(o.round.GetClientCapabilities())
	raw, err := u.request(ctx, &client.Call{Method: o.method, Params: params, Name: o.name, Capabilities: can.json()})
	if err != nil {
		return result{}, nil, err
	}
	r, err := readResult(raw)
	if err != nil {
		return result{}, nil, down(err)
	}
	if r.ResultType != "input_required" {
		return r, nil, nil
	}
	asked, err := r.modernQuestions(can)
	if err != nil {
		return result{}, nil, down(err)
	}
	b, err := state{Kind: modernCall, Who: o.who, Name: o.as, Theirs: r.RequestState}.bytes()
	if err != nil {
		return result{}, nil, err
	}
	in, err := inputRequired(asked, b)
	if err != nil {
		return result{}, nil, down(err)
	}
	return result{}, in, nil
}

// request makes a call of the upstream within its bounds. An [*client.Error] is
// returned as it is.
func (u *upstream) request(ctx context.Context, c *client.Call) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.Timeout)
	defer cancel()
	if err := u.pool.slot(ctx); err != nil {
		return nil, slotFault(err)
	}
	defer u.pool.free()
	raw, err := u.call(ctx, c)
	if _, answered := errors.AsType[*client.Error](err); err == nil || answered {
		return raw, err
	}
	return nil, u.fault(err)
}

// Complete implements [providerv1.ProviderServiceServer]. Where an upstream cannot
// complete there are no suggestions, which is no error.
func (s *Service) Complete(ctx context.Context, req *providerv1.CompleteRequest) (*providerv1.CompleteResponse, error) {
	c := s.known.Load()
	var u *upstream
	var ref map[string]string
	if name := req.GetPrompt(); name != "" {
		place, ok := c.promptBy[name]
		if !ok {
			return nil, unknown("prompt")
		}
		u, ref = place.by, map[string]string{"type": "ref/prompt", "name": place.it.name}
	} else {
		if u = c.template(req.GetUriTemplate()); u == nil {
			return nil, unknown("template")
		}
		ref = map[string]string{"type": "ref/resource", "uri": req.GetUriTemplate()}
	}
	if o := u.offering(); o == nil || !o.completion {
		return &providerv1.CompleteResponse{}, nil
	}
	params := map[string]json.RawMessage{}
	parts := map[string]any{"ref": ref, "argument": map[string]string{"name": req.GetArgument(), "value": req.GetValue()}}
	if len(req.GetContext()) > 0 {
		parts["context"] = map[string]any{"arguments": req.GetContext()}
	}
	for k, v := range parts {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		params[k] = b
	}
	raw, err := u.request(ctx, &client.Call{Method: "completion/complete", Params: params})
	if e, ok := errors.AsType[*client.Error](err); ok {
		switch e.Code {
		case client.CodeInvalidParams:
			return nil, badArguments(e)
		case client.CodeMethodNotFound:
			return &providerv1.CompleteResponse{}, nil
		}
		return nil, down(err)
	}
	if err != nil {
		return nil, err
	}
	return readCompletion(raw)
}

func readCompletion(raw json.RawMessage) (*providerv1.CompleteResponse, error) {
	var r struct {
		Completion struct {
			Values  []string        `json:"values"`
			Total   json.RawMessage `json:"total"`
			HasMore bool            `json:"hasMore"`
		} `json:"completion"`
	}
	if json.Unmarshal(raw, &r) != nil {
		return nil, down(errResult)
	}
	out := &providerv1.CompleteResponse{HasMore: r.Completion.HasMore, Total: uint32(min(readSize(r.Completion.Total), 1<<31))}
	for _, v := range r.Completion.Values {
		switch {
		case !fits(v, maxText):
		case len(out.Values) == maxSuggestions:
			out.HasMore = true
		default:
			out.Values = append(out.Values, v)
		}
	}
	return out, nil
}

// maxSuggestions is the protocol's own bound.
const maxSuggestions = 100
