package policy

import (
	"github.com/cedar-policy/cedar-go"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// The types of the schema.
const (
	typePrincipal cedar.EntityType = "Principal"
	typeRole      cedar.EntityType = "Role"
	typeTool      cedar.EntityType = "Tool"
	typeService   cedar.EntityType = "Service"
	typeResource  cedar.EntityType = "Resource"
	typePrompt    cedar.EntityType = "Prompt"
	typeGateway   cedar.EntityType = "Gateway"
	typeAction    cedar.EntityType = "Action"
)

// actionList is the group of all actions that only tell what there is.
var actionList = cedar.NewEntityUID(typeAction, "list")

// Subject is a caller as policies see him. It never changes.
type Subject struct{ entity cedar.Entity }

// NewSubject returns the subject for a principal and the scopes of his token, if he
// has one.
func NewSubject(p *authv1.Principal, scopes []string) *Subject {
	parents := make([]cedar.EntityUID, 0, len(p.GetRoles()))
	for _, role := range p.GetRoles() {
		parents = append(parents, cedar.NewEntityUID(typeRole, cedar.String(role)))
	}
	return &Subject{cedar.Entity{
		UID:     cedar.NewEntityUID(typePrincipal, cedar.String(p.GetId())),
		Parents: cedar.NewEntityUIDSet(parents...),
		Attributes: cedar.NewRecord(cedar.RecordMap{
			"owner":      cedar.String(p.GetOwner()),
			"tenant":     cedar.String(p.GetTenant()),
			"name":       cedar.String(p.GetName()),
			"credential": cedar.String(p.GetCredentialId()),
			"scopes":     stringSet(scopes),
		}),
	}}
}

// Object is what a caller wants to act on, as policies see it. It never
// changes.
type Object struct{ entity cedar.Entity }

// NewTool returns the object for a tool of the catalogue. What the tool does
// not say of itself is taken to be dangerous.
func NewTool(e *executorv1.Catalogue_Entry) *Object {
	o := e.GetOptions()
	risk := map[toolv1.Risk]cedar.String{toolv1.Risk_RISK_READ: "read", toolv1.Risk_RISK_WRITE: "write"}[o.GetRisk()]
	if risk == "" {
		risk = "destructive"
	}
	return &Object{cedar.Entity{
		UID:     cedar.NewEntityUID(typeTool, cedar.String(e.GetName())),
		Parents: cedar.NewEntityUIDSet(cedar.NewEntityUID(typeService, cedar.String(e.GetService()))),
		Attributes: cedar.NewRecord(cedar.RecordMap{
			"name":        cedar.String(e.GetName()),
			"service":     cedar.String(e.GetService()),
			"risk":        risk,
			"trust":       cedar.String(trustWord(o.GetTrust())),
			"sensitivity": cedar.String(sensitivityWord(o.GetSensitivity())),
			"outbound":    cedar.Boolean(o.GetOutbound()),
			"tags":        stringSet(o.GetTags()),
			"scopes":      stringSet(o.GetScopes()),
		}),
	}}
}

// IsTool reports whether the object is a tool.
func (o *Object) IsTool() bool { return o.entity.UID.Type == typeTool }

// NewResource returns the object for a resource or a resource template.
func NewResource(uri string) *Object {
	return &Object{cedar.Entity{
		UID: cedar.NewEntityUID(typeResource, cedar.String(uri)),
		Attributes: cedar.NewRecord(cedar.RecordMap{
			"uri":    cedar.String(uri),
			"scheme": cedar.String(scheme(uri)),
		}),
	}}
}

// NewPrompt returns the object for a prompt.
func NewPrompt(name string) *Object {
	return &Object{cedar.Entity{
		UID:        cedar.NewEntityUID(typePrompt, cedar.String(name)),
		Attributes: cedar.NewRecord(cedar.RecordMap{"name": cedar.String(name)}),
	}}
}

// NewGateway returns the object for all that is about the gate as a whole.
func NewGateway() *Object {
	return &Object{cedar.Entity{UID: cedar.NewEntityUID(typeGateway, "sallyport")}}
}

// Action is what a caller wants to do, as policies see it.
type Action struct{ entity cedar.Entity }

// NewAction returns the action of an MCP method, such as "tools/call".
func NewAction(method string) Action {
	a := cedar.Entity{UID: cedar.NewEntityUID(typeAction, cedar.String(method))}
	switch method {
	case "tools/list", "resources/list", "prompts/list":
		a.Parents = cedar.NewEntityUIDSet(actionList)
	}
	return Action{a}
}

func stringSet(texts []string) cedar.Set {
	values := make([]cedar.Value, 0, len(texts))
	for _, s := range texts {
		values = append(values, cedar.String(s))
	}
	return cedar.NewSet(values...)
}
