package edge_test

import (
	"context"
	"errors"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// The part of the world that has resources, prompts and completion. What is
// named "denied" is denied, what is named "hidden" is not listed.

func grantFor(action authv1.Action, target string) string {
	return "grant for " + action.String() + " " + target
}

// decideOther decides about everything but calls.
func decideOther(req *authv1.AuthorizeRequest, resp *authv1.AuthorizeResponse) {
	d, target := resp.GetDecision(), req.GetTarget()
	switch {
	case strings.Contains(target, "denied"):
		d.Reason, d.Policy, d.Message = auditv1.Reason_REASON_POLICY_DENIED, "admins-only", "this is for admins"
	case strings.Contains(target, "scoped"):
		d.Reason, resp.ScopesNeeded = auditv1.Reason_REASON_INSUFFICIENT_SCOPE, []string{"docs:read"}
	default:
		d.Verdict, resp.Grant = auditv1.Verdict_VERDICT_ALLOW, []byte(grantFor(req.GetAction(), target))
	}
}

func (a *fakeAuth) FilterTools(_ context.Context, req *authv1.FilterToolsRequest) (*authv1.FilterToolsResponse, error) {
	switch req.GetCredential().GetToken() {
	case "good-until-called":
		return &authv1.FilterToolsResponse{}, nil
	case "good-until-called-too-often":
		return &authv1.FilterToolsResponse{RetryAfter: durationpb.New(60e9)}, nil
	}
	resp := &authv1.FilterToolsResponse{Principal: anna()}
	for _, name := range req.GetTools() {
		if name != "delete_customer_account" && !a.isHidden(name) {
			resp.Allowed = append(resp.Allowed, name)
		}
	}
	return resp, nil
}

func (a *fakeAuth) FilterTargets(_ context.Context, req *authv1.FilterTargetsRequest) (*authv1.FilterTargetsResponse, error) {
	switch req.GetCredential().GetToken() {
	case "good-until-called":
		return &authv1.FilterTargetsResponse{}, nil
	case "good-until-called-too-often":
		return &authv1.FilterTargetsResponse{RetryAfter: durationpb.New(60e9)}, nil
	}
	resp := &authv1.FilterTargetsResponse{Principal: anna()}
	for _, target := range req.GetTargets() {
		if !strings.Contains(target, "hidden") && !a.isHidden(target) {
			resp.Allowed = append(resp.Allowed, target)
		}
	}
	return resp, nil
}

// admit is what the executor does with grants.
func admit(grant []byte, action authv1.Action, target string) error {
	if string(grant) != grantFor(action, target) {
		return fault.New(codes.PermissionDenied, executorv1.Reason_REASON_GRANT, "for %s", grant)
	}
	return nil
}

// trouble fails requests by name.
func trouble(name string) error {
	switch {
	case strings.Contains(name, "unknown"):
		return fault.New(codes.NotFound, executorv1.Reason_REASON_UNKNOWN, "none at 10.0.0.3")
	case strings.Contains(name, "unreachable"):
		return fault.New(codes.Unavailable, executorv1.Reason_REASON_PROVIDER, "the provider of this resource cannot be reached just now.")
	case strings.Contains(name, "unserved"):
		return fault.New(codes.InvalidArgument, executorv1.Reason_REASON_ARGUMENTS, "language has to be given")
	case strings.Contains(name, "ungranted"):
		return fault.New(codes.PermissionDenied, executorv1.Reason_REASON_GRANT, "expired at noon")
	case strings.Contains(name, "unrecorded"):
		return fault.New(codes.Unavailable, executorv1.Reason_REASON_AUDIT_UNAVAILABLE, "stream AUDIT is away")
	case strings.Contains(name, "broken"):
		return errors.New("secret: nil map at 10.0.0.6")
	case strings.Contains(name, "starting"):
		return fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY, "starting at 10.0.0.4")
	case strings.Contains(name, "tardy"):
		return context.DeadlineExceeded
	}
	return nil
}

func (e *fakeExecutor) ListResources(_ context.Context, req *executorv1.ListResourcesRequest) (*executorv1.ListResourcesResponse, error) {
	if err := admit(req.GetGrant(), authv1.Action_ACTION_RESOURCES_LIST, ""); err != nil {
		return nil, err
	}
	if e.down.Load() {
		return nil, trouble("starting")
	}
	return &executorv1.ListResourcesResponse{
		Resources: []*providerv1.Resource{
			{Uri: "test://z", Name: "z"},
			{
				Uri: "test://a", Name: "a", Title: "The first", Description: "Is \"a\".", MimeType: "text/plain", Size: 7,
				Annotations: &providerv1.Annotations{Audience: []string{"user"}, Priority: proto.Float64(1)},
				Icons:       []*providerv1.Icon{{Src: "data:image/png;base64,eA==", MimeType: "image/png"}},
				Meta:        []byte(`{"com.example/x":1}`),
			},
			{Uri: "test://hidden", Name: "hidden"},
			{Uri: "test://b"},
			{Uri: "test://b", Name: "said twice"},
			{Uri: "no uri", Name: "bad"},
			{Uri: "test://c", Name: "c"},
			{Uri: "test://d", Name: "d"},
		},
		Templates: []*providerv1.ResourceTemplate{
			{UriTemplate: "test://template/{id}/data", Name: "data", MimeType: "application/json", Description: "By id."},
			{UriTemplate: "test://hidden/{id}", Name: "hidden"},
			{UriTemplate: "test://no/variable", Name: "bad"},
		},
	}, nil
}

func (e *fakeExecutor) ReadResource(_ context.Context, req *executorv1.ReadResourceRequest) (*executorv1.ReadResourceResponse, error) {
	uri := req.GetUri()
	if err := admit(req.GetGrant(), authv1.Action_ACTION_RESOURCES_READ, uri); err != nil {
		return nil, err
	}
	if err := trouble(uri); err != nil {
		return nil, err
	}
	answer := func(r *providerv1.ReadResourceResponse) (*executorv1.ReadResourceResponse, error) {
		return &executorv1.ReadResourceResponse{Response: r}, nil
	}
	switch {
	case uri == "test://empty":
		return answer(&providerv1.ReadResourceResponse{})
	case uri == "test://asks" && string(req.GetRound().GetState()) != "s1":
		return answer(&providerv1.ReadResourceResponse{InputRequired: askName()})
	case uri == "test://asks":
		return answer(&providerv1.ReadResourceResponse{Contents: text(uri, string(req.GetRound().GetInputResponses()))})
	case uri == "test://binary":
		return &executorv1.ReadResourceResponse{Response: &providerv1.ReadResourceResponse{Contents: []*providerv1.ResourceContents{
			{Uri: uri, MimeType: "image/png", Body: &providerv1.ResourceContents_Blob{Blob: []byte("png")}},
		}}, Guards: []*executorv1.GuardActed{{Guard: "secrets", Redacted: 1}}}, nil
	}
	return answer(&providerv1.ReadResourceResponse{Contents: text(uri, "hello"), Ttl: durationpb.New(1500e6)})
}

func text(uri, body string) []*providerv1.ResourceContents {
	return []*providerv1.ResourceContents{{
		Uri: uri, MimeType: "text/plain", Body: &providerv1.ResourceContents_Text{Text: body}, Meta: []byte(`{"a":1}`),
	}}
}

func (e *fakeExecutor) ListPrompts(_ context.Context, req *executorv1.ListPromptsRequest) (*executorv1.ListPromptsResponse, error) {
	if err := admit(req.GetGrant(), authv1.Action_ACTION_PROMPTS_LIST, ""); err != nil {
		return nil, err
	}
	if e.down.Load() {
		return nil, trouble("starting")
	}
	return &executorv1.ListPromptsResponse{Prompts: []*providerv1.Prompt{
		{Name: "zero"},
		{Name: "greet", Title: "Greet", Description: "Greets.", Arguments: []*providerv1.PromptArgument{
			{Name: "who", Title: "Who", Description: "Whom to greet.", Required: true}, {Name: "how"},
		}, Meta: []byte(`{"com.example/x":1}`)},
		{Name: "hidden"},
	}}, nil
}

func (e *fakeExecutor) GetPrompt(_ context.Context, req *executorv1.GetPromptRequest) (*executorv1.GetPromptResponse, error) {
	name := req.GetName()
	if err := admit(req.GetGrant(), authv1.Action_ACTION_PROMPTS_GET, name); err != nil {
		return nil, err
	}
	if err := trouble(name); err != nil {
		return nil, err
	}
	if name == "asks" && string(req.GetRound().GetState()) != "s1" {
		return &executorv1.GetPromptResponse{Response: &providerv1.GetPromptResponse{InputRequired: askName()}}, nil
	}
	return &executorv1.GetPromptResponse{Response: &providerv1.GetPromptResponse{
		Description: "Greets.",
		Messages: []*providerv1.PromptMessage{
			{Role: "user", Content: &providerv1.Content{Kind: &providerv1.Content_Text{Text: "Greet " + req.GetArguments()["who"] + string(req.GetRound().GetInputResponses())}}},
			{Role: "assistant", Content: &providerv1.Content{Kind: &providerv1.Content_Image{Image: &providerv1.Media{Data: []byte("png"), MimeType: "image/png"}}}},
		},
	}}, nil
}

func (e *fakeExecutor) Complete(_ context.Context, req *executorv1.CompleteRequest) (*executorv1.CompleteResponse, error) {
	ask := req.GetRequest()
	target := ask.GetPrompt() + ask.GetUriTemplate()
	if err := admit(req.GetGrant(), authv1.Action_ACTION_COMPLETE, target); err != nil {
		return nil, err
	}
	if err := trouble(target); err != nil {
		return nil, err
	}
	resp := &providerv1.CompleteResponse{}
	switch ask.GetArgument() {
	case "all":
		for range 120 {
			resp.Values = append(resp.Values, "v")
		}
		resp.Total = 500
	case "who":
		resp.Values, resp.HasMore = []string{ask.GetValue() + "na", ask.GetValue() + ask.GetContext()["how"]}, true
	}
	return &executorv1.CompleteResponse{Response: resp}, nil
}

// askName asks for a name, by a form.
func askName() *providerv1.InputRequired {
	return &providerv1.InputRequired{
		InputRequests: []byte(`{ "user_name": {"id":9,"method":"elicitation/create","params":{"mode":"form","message":"Who?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}} }`),
		State:         []byte("s1"),
	}
}

// fakeRounds is the memory of used states.
type fakeRounds struct {
	mu   sync.Mutex
	down bool
	used map[string]bool
}

func (r *fakeRounds) Use(_ context.Context, id string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return false, errors.New("no bus at 10.0.0.9")
	}
	if r.used == nil {
		r.used = make(map[string]bool)
	}
	first := !r.used[id]
	r.used[id] = true
	return first, nil
}
