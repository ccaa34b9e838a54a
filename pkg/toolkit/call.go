package toolkit

import (
	"context"
	"strconv"

	"google.golang.org/grpc/metadata"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// Call is what a tool that is called gets to know beside its request.
type Call struct {
	// Chain is where in a task the call stands.
	Chain Chain
	// IdempotencyKey is a name of the call, see [IdempotencyKeyOf].
	IdempotencyKey string
	// Caller is for whom, see [WithCaller].
	Caller *authv1.Principal
}

// With returns a context in which a tool that is called gets to know all of it. The
// executor uses it.
func (c Call) With(ctx context.Context) context.Context {
	pairs := [...]string{
		contextKey, c.Chain.Context, hopsKey, strconv.FormatUint(uint64(c.Chain.Hops), 10), idempotencyKey, c.IdempotencyKey, callerKey, "",
	}
	caller, ok := told(c.Caller)
	if !ok {
		return metadata.AppendToOutgoingContext(ctx, pairs[:len(pairs)-2]...)
	}
	pairs[len(pairs)-1] = caller
	return metadata.AppendToOutgoingContext(ctx, pairs[:]...)
}
