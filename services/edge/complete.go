package edge

import (
	"strconv"

	"github.com/go-json-experiment/json"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// Bounds of a completion; the contract of the executor has the same.
const (
	maxCompleteValue  = 4096
	maxCompleteValues = 100
)

// completeParams are the params of completion/complete.
type completeParams struct {
	Ref struct {
		Type string `json:"type"`
		Name string `json:"name"`
		URI  string `json:"uri"`
	} `json:"ref"`
	Argument struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"argument"`
	Context struct {
		Arguments map[string]string `json:"arguments"`
	} `json:"context"`
}

// readComplete reads params of completion/complete, and tells what is wrong with
// them, if anything.
func readComplete(params []byte) (req *providerv1.CompleteRequest, target, problem string) {
	var p completeParams
	if len(params) == 0 || json.Unmarshal(params, &p) != nil {
		return nil, "", "params has to have ref, argument and perhaps context, as the protocol describes them"
	}
	req = &providerv1.CompleteRequest{Argument: p.Argument.Name, Value: p.Argument.Value, Context: p.Context.Arguments}
	switch p.Ref.Type {
	case "ref/prompt":
		if !promptName(p.Ref.Name) {
			return nil, "", "params.ref.name has to be the name of a prompt"
		}
		req.Prompt, target = p.Ref.Name, p.Ref.Name
	case "ref/resource":
		if !uriTemplate(p.Ref.URI) {
			return nil, "", "params.ref.uri has to be a URI template; a URI without variables has nothing to complete"
		}
		req.UriTemplate, target = p.Ref.URI, p.Ref.URI
	default:
		return nil, "", "params.ref.type has to be ref/prompt or ref/resource"
	}
	if !plainText(req.GetArgument(), maxPromptArgName) || !within(req.GetValue(), maxCompleteValue) {
		return nil, "", "params.argument has to have a name, and a value of at most 4096 characters"
	}
	if len(req.GetContext()) > maxPromptArgs {
		return nil, "", "params.context.arguments has too many members"
	}
	for name, value := range req.GetContext() {
		if !within(name, maxPromptArgName) || !within(value, maxCompleteValue) {
			return nil, "", "params.context.arguments has a member that is too long"
		}
	}
	return req, target, ""
}

// complete answers with suggestions for an argument of a prompt or a variable of
// a template.
func (x *exchange) complete() *refusal {
	req, target, problem := readComplete(x.msg.Raw(x.msg.Params))
	if problem != "" {
		return refuse(kindParams, problem)
	}
	allow, refused := x.authorize(authv1.Action_ACTION_COMPLETE, target, noArguments())
	if refused != nil {
		return refused
	}
	ctx, cancel := x.callContext()
	defer cancel()
	resp, err := x.s.executor.Complete(ctx, &executorv1.CompleteRequest{Grant: allow.GetGrant(), Request: req})
	if err != nil {
		return x.requestFailed(err)
	}
	x.answerCompletion(resp.GetResponse())
	return nil
}

func (x *exchange) answerCompletion(found *providerv1.CompleteResponse) {
	values := found.GetValues()
	more := found.GetHasMore() || len(values) > maxCompleteValues
	values = values[:min(len(values), maxCompleteValues)]
	x.beginResult()
	x.out = append(x.out, `"completion":{"values":[`...)
	for i, v := range values {
		if i > 0 {
			x.out = append(x.out, ',')
		}
		x.out = appendText(x.out, v)
	}
	x.out = append(x.out, ']')
	if total := int(found.GetTotal()); total >= len(values) { // else it is not known
		x.out = strconv.AppendInt(append(x.out, `,"total":`...), int64(total), 10)
	}
	x.out = append(strconv.AppendBool(append(x.out, `,"hasMore":`...), more), '}')
	x.endResult(x.allowedMeta())
}
