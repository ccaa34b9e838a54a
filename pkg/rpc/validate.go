package rpc

import (
	"context"
	"errors"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
)

// Validate returns an interceptor that answers codes.InvalidArgument to a
// request that breaks the rules written in its proto file. Handlers behind it
// may therefore rely on those rules and must not check them again.
//
// The answer names each broken field but never repeats its value, which may be
// a secret.
func Validate(v protovalidate.Validator) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if err := validate(v, req); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

// ValidateStream is [Validate] for streams: it checks every message that is
// received.
func ValidateStream(v protovalidate.Validator) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		return next(srv, validatingStream{ss, v})
	}
}

type validatingStream struct {
	grpc.ServerStream
	v protovalidate.Validator
}

func (s validatingStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return validate(s.v, m)
}

func validate(v protovalidate.Validator, req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return errors.New("validate: the request is not a proto message")
	}
	err := v.Validate(m)
	if broken, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
		return invalid(broken)
	}
	return err // nil, or a rule that does not compile: our mistake, not the caller's
}

func invalid(err *protovalidate.ValidationError) *fault.Error {
	fields := make([]string, len(err.Violations))
	for i, v := range err.Violations {
		fields[i] = protovalidate.FieldPathString(v.Proto.GetField()) + ": " + v.Proto.GetRuleId()
	}
	return fault.New(codes.InvalidArgument, faultv1.Reason_REASON_INVALID,
		"the request breaks its contract: %s", strings.Join(fields, "; "))
}
