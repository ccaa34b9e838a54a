package auth

import (
	"context"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
)

// GetPolicies implements [authv1.PolicyServiceServer].
func (s *Service) GetPolicies(context.Context, *authv1.GetPoliciesRequest) (*authv1.GetPoliciesResponse, error) {
	return s.policies.describe()
}

// CheckPolicies implements [authv1.PolicyServiceServer].
func (s *Service) CheckPolicies(_ context.Context, req *authv1.CheckPoliciesRequest) (*authv1.CheckPoliciesResponse, error) {
	return checkPolicies(req, s.scene.current().tools), nil
}

// PutPolicies implements [authv1.PolicyServiceServer].
func (s *Service) PutPolicies(ctx context.Context, req *authv1.PutPoliciesRequest) (*authv1.PutPoliciesResponse, error) {
	version, err := s.putPolicies(ctx, filesOf(req.GetFiles()), req.GetBaseVersion(), req.GetAuthor())
	if err != nil {
		return nil, err
	}
	return &authv1.PutPoliciesResponse{Version: version}, nil
}

// RemovePolicies implements [authv1.PolicyServiceServer].
func (s *Service) RemovePolicies(ctx context.Context, req *authv1.RemovePoliciesRequest) (*authv1.RemovePoliciesResponse, error) {
	version, err := s.removePolicies(ctx, req.GetBaseVersion(), req.GetAuthor())
	if err != nil {
		return nil, err
	}
	return &authv1.RemovePoliciesResponse{Version: version}, nil
}

// Simulate implements [authv1.PolicyServiceServer].
func (s *Service) Simulate(ctx context.Context, req *authv1.SimulateRequest) (*authv1.SimulateResponse, error) {
	return simulate(ctx, req, s.scene.current(), func() ([]*keyring.Key, error) {
		if err := s.ring.Ready(); err != nil {
			return nil, notReady()
		}
		return s.ring.All(), nil
	})
}
