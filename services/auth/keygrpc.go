package auth

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
)

// defaultPage is the size of a page where none is asked for.
const defaultPage = 1000

// CreateKey implements [authv1.KeyServiceServer].
func (s *Service) CreateKey(ctx context.Context, req *authv1.CreateKeyRequest) (*authv1.CreateKeyResponse, error) {
	key, token, err := s.create(ctx, req)
	if err != nil {
		return nil, err
	}
	return &authv1.CreateKeyResponse{Key: key.Describe(time.Now()), Secret: token.Reveal()}, nil
}

// RotateKey implements [authv1.KeyServiceServer].
func (s *Service) RotateKey(ctx context.Context, req *authv1.RotateKeyRequest) (*authv1.RotateKeyResponse, error) {
	key, token, err := s.rotate(ctx, req.GetId(), req.GetOverlap().AsDuration())
	if err != nil {
		return nil, err
	}
	return &authv1.RotateKeyResponse{Key: key.Describe(time.Now()), Secret: token.Reveal()}, nil
}

// RevokeKey implements [authv1.KeyServiceServer].
func (s *Service) RevokeKey(ctx context.Context, req *authv1.RevokeKeyRequest) (*authv1.RevokeKeyResponse, error) {
	key, err := s.revoke(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &authv1.RevokeKeyResponse{Key: key.Describe(time.Now())}, nil
}

// ListKeys implements [authv1.KeyServiceServer]. The token of a page is the id
// of the last key on the page before.
func (s *Service) ListKeys(_ context.Context, req *authv1.ListKeysRequest) (*authv1.ListKeysResponse, error) {
	if err := s.ring.Ready(); err != nil {
		return nil, notReady()
	}
	all := s.ring.All()
	if after := req.GetPageToken(); after != "" {
		i := slices.IndexFunc(all, func(k *keyring.Key) bool { return k.Record.ID == after })
		if i < 0 {
			return nil, fault.New(codes.InvalidArgument, faultv1.Reason_REASON_INVALID, "page_token is not from an earlier answer")
		}
		all = all[i+1:]
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPage
	}
	resp := new(authv1.ListKeysResponse)
	if len(all) > size {
		all = all[:size]
		resp.NextPageToken = all[size-1].Record.ID
	}
	now := time.Now()
	for _, k := range all {
		resp.Keys = append(resp.Keys, k.Describe(now))
	}
	return resp, nil
}
