package toolkit

import (
	"context"

	"google.golang.org/grpc/metadata"
)

const idempotencyKey = "sallyport-idempotency-key"

// IdempotencyKeyOf returns a name of the call that a tool is answering, the same if
// the call is made again: the client's, or else the id of the decision that allows
// it. A tool that calls a service that takes such keys passes it on. It is empty
// where the tool was called by somebody else than the executor.
func IdempotencyKeyOf(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, idempotencyKey); len(v) == 1 {
		return v[0]
	}
	return ""
}
