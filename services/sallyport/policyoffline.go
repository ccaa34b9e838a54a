package main

import (
	"errors"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// offlinePolicies decides without a running system.
func offlinePolicies() (authv1.PolicyServiceClient, error) {
	return nil, errors.New("waits for p1")
}
