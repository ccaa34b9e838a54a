package rpc

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/pkg/identity"
)

// AnyRole in an allow-list lets in every peer that has proved its role.
const AnyRole = "*"

// Allow returns an interceptor that lets in only calls from the roles listed
// for the service. It fails closed: a service that is not listed can be called
// by nobody, and a peer without a role is let in nowhere.
func Allow(list map[string][]string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if err := allowed(ctx, list, info.FullMethod); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

// AllowStream is [Allow] for streams.
func AllowStream(list map[string][]string) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if err := allowed(ss.Context(), list, info.FullMethod); err != nil {
			return err
		}
		return next(srv, ss)
	}
}

func allowed(ctx context.Context, list map[string][]string, method string) error {
	who := identity.Caller(ctx)
	service, _, ok := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	roles := list[service]
	if ok && who != "" && (slices.Contains(roles, who) || slices.Contains(roles, AnyRole)) {
		return nil
	}
	return fault.New(codes.PermissionDenied, faultv1.Reason_REASON_PEER_UNKNOWN, "the role %q may not call this service", who)
}
