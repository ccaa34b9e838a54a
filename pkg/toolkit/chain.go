package toolkit

import (
	"context"
	"strconv"

	"google.golang.org/grpc/metadata"
)

// Names of gRPC metadata of a call to a tool.
const (
	contextKey = "sallyport-context"
	hopsKey    = "sallyport-hops"
)

// Chain is where in a task a call stands. A tool that itself calls agents or
// tools passes it on, in _meta["dev.sallyport/context"] and
// _meta["dev.sallyport/hops"] of its requests: so a loop through several of them
// meets one step budget, and ends when it has come through too many.
type Chain struct {
	// Context is the id of the task, as far as one is known.
	Context string
	// Hops is how many agents and tools a request of this tool has come through.
	Hops uint32
}

// With returns a context in which a tool that is called gets to know the chain.
// The executor uses it.
func (c Chain) With(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, contextKey, c.Context, hopsKey, strconv.FormatUint(uint64(c.Hops), 10))
}

// ChainOf returns the chain of the call that a tool is answering; a zero one
// where it was called without.
func ChainOf(ctx context.Context) Chain {
	var c Chain
	if v := metadata.ValueFromIncomingContext(ctx, contextKey); len(v) == 1 {
		c.Context = v[0]
	}
	if v := metadata.ValueFromIncomingContext(ctx, hopsKey); len(v) == 1 {
		if n, err := strconv.ParseUint(v[0], 10, 32); err == nil {
			c.Hops = uint32(n)
		}
	}
	return c
}
