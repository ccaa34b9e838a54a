package auth

import (
	"context"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// DescribeResource implements [authv1.AuthServiceServer]. No token of anybody
// else is good here yet, so there is nothing to tell.
func (s *Service) DescribeResource(context.Context, *authv1.DescribeResourceRequest) (*authv1.DescribeResourceResponse, error) {
	return &authv1.DescribeResourceResponse{}, nil
}
