package auth

import (
	"context"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// Role plays the auth service in a process. The edge asks it; keys and policies
// are managed and calls approved by the operators' program alone.
var Role = app.Role{
	Name: "auth",
	Allow: map[string][]string{
		authv1.AuthService_ServiceDesc.ServiceName:     {"edge"},
		authv1.KeyService_ServiceDesc.ServiceName:      {"sallyport"},
		authv1.PolicyService_ServiceDesc.ServiceName:   {"sallyport"},
		authv1.ApprovalService_ServiceDesc.ServiceName: {"sallyport"},
	},
	New: func(env *app.Env) (app.Service, error) {
		cfg := DefaultConfig()
		if err := env.Config(&cfg); err != nil {
			return nil, err
		}
		s, err := New(cfg, Deps{
			Log:   env.Log,
			Store: env.Bus,
			Audit: env.Audit,
			Notify: func(ctx context.Context, key *authv1.Key) error {
				return bus.Publish(ctx, env.Bus, bus.SubjectCredentials, key)
			},
			NotifyPolicies: overBus(env.Bus),
			StateDir:       env.StateDir,
		})
		if err != nil {
			return nil, err
		}
		env.Ready("keys", s.KeysReady)
		env.Ready("policies", s.PoliciesReady)
		env.Ready("catalogue", s.CatalogueReady)
		return s, nil
	},
}
