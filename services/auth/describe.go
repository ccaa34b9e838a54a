package auth

import (
	"context"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/dpop"
)

// DescribeResource implements [authv1.AuthServiceServer].
func (s *Service) DescribeResource(context.Context, *authv1.DescribeResourceRequest) (*authv1.DescribeResourceResponse, error) {
	c := s.cfg.OAuth
	if !c.Enabled() { // API keys alone, of which some may need proofs
		return &authv1.DescribeResourceResponse{DpopAlgorithms: dpop.Algorithms()}, nil
	}
	resp := &authv1.DescribeResourceResponse{
		Resource: c.Resource, ResourceName: c.ResourceName, Documentation: c.Documentation,
		ScopesSupported: c.ScopesSupported, ChallengeScopes: c.ChallengeScopes,
	}
	if some, all := c.Proofs(); some {
		resp.DpopAlgorithms, resp.DpopRequired = dpop.Algorithms(), all
	}
	for _, i := range c.Issuers {
		resp.AuthorizationServers = append(resp.AuthorizationServers, i.Issuer)
	}
	return resp, nil
}
