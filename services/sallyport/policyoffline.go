package main

import (
	"log/slog"

	"google.golang.org/grpc"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// offlinePolicies decides without a running system, by the code of one.
func offlinePolicies() (authv1.PolicyServiceClient, error) {
	s, err := auth.NewSimulator()
	if err != nil {
		return nil, failed(err)
	}
	srv := rpc.Server{
		Log:   slog.New(slog.DiscardHandler),
		Allow: map[string][]string{authv1.PolicyService_ServiceDesc.ServiceName: {operatorRole}},
	}
	return authv1.NewPolicyServiceClient(srv.Local(operatorRole, nil, func(r grpc.ServiceRegistrar) {
		authv1.RegisterPolicyServiceServer(r, s)
	})), nil
}
