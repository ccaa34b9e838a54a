package rpc

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
)

// Seal logs every error a handler returns, and lets out what fault.Seal leaves
// of it.
func Seal(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		resp, err := next(ctx, req)
		if err != nil {
			return nil, seal(ctx, log, info.FullMethod, err)
		}
		return resp, nil
	}
}

// SealStream is [Seal] for streams.
func SealStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if err := next(srv, ss); err != nil {
			return seal(ss.Context(), log, info.FullMethod, err)
		}
		return nil
	}
}

func seal(ctx context.Context, log *slog.Logger, method string, err error) error {
	sealed := fault.Seal(err)
	level := slog.LevelInfo
	switch status.Code(sealed) {
	case codes.Internal:
		level = slog.LevelError
	case codes.Canceled:
		level = slog.LevelDebug // the caller went away, which is his right
	}
	log.LogAttrs(ctx, level, "rpc failed",
		slog.String("method", method),
		slog.String("code", status.Code(sealed).String()),
		slog.Any("err", err))
	return sealed
}
