package tool

import (
	"context"
	"fmt"
)

// Bounds on what is read of one call that is a stream.
const (
	// MaxMessages bounds its messages.
	MaxMessages = 10_000
	// maxResults bounds their bytes, in results of the largest size.
	maxResults = 16
)

// ErrEndless says that a tool has sent more than is read of one call.
var ErrEndless = fmt.Errorf("%w: more than %d messages, or %d times as much as a result may be", ErrInvalid, MaxMessages, maxResults)

// Reads says when more of a service's streams may be read.
type Reads interface {
	// Read waits until one more message may be. The one before it on the same
	// stream had size bytes.
	Read(ctx context.Context, size int) error
}

// Reading counts what is read of one stream, and keeps it within bounds.
type Reading struct {
	call        *Call
	messages    int
	last, total int // bytes
}

// Read begins to read a stream of the call.
func (c *Call) Read() *Reading { return &Reading{call: c} }

// Next waits until another message may be read. It returns ErrEndless if there have
// been too many, or the context's error.
func (r *Reading) Next(ctx context.Context) error {
	if r.messages > MaxMessages || r.total > maxResults*r.call.Limit {
		return ErrEndless
	}
	if r.call.Reads == nil {
		return nil
	}
	return r.call.Reads.Read(ctx, r.last)
}

// Got tells of a message that was read, of so many bytes.
func (r *Reading) Got(size int) {
	r.messages++
	r.last = size
	r.total += size
}
