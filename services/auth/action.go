package auth

import (
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// action is an action by its names.
type action struct {
	method string // of MCP, for the record
	policy policy.Action
}

// actions and gateway are constants that Go cannot write as such.
var (
	actions = map[authv1.Action]action{
		authv1.Action_ACTION_TOOLS_LIST:     named("tools/list"),
		authv1.Action_ACTION_TOOLS_CALL:     named("tools/call"),
		authv1.Action_ACTION_RESOURCES_LIST: named("resources/list"),
		authv1.Action_ACTION_RESOURCES_READ: named("resources/read"),
		authv1.Action_ACTION_PROMPTS_LIST:   named("prompts/list"),
		authv1.Action_ACTION_PROMPTS_GET:    named("prompts/get"),
		authv1.Action_ACTION_COMPLETE:       named("completion/complete"),
		authv1.Action_ACTION_SUBSCRIBE:      named("subscriptions/listen"),
	}
	gateway = policy.NewGateway()
)

func named(method string) action { return action{method, policy.NewAction(method)} }
