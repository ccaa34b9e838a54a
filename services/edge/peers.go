package edge

import (
	"context"
	"crypto/rand"

	edgev1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/edge/v1"
)

// Peers is how the edges of a cluster reach each other. Messages may be lost.
type Peers interface {
	// Listen takes what other edges send to all, or to the one called node, until
	// ctx is done. It keeps trying where it cannot listen just now.
	Listen(ctx context.Context, node string, on PeerHandler)
	// Cancel tells all others that a request was cancelled.
	Cancel(ctx context.Context, c *edgev1.Cancel) error
	// Answer takes a client's answer to the edge called node, and reports whether
	// it waited for that. There may be no such edge.
	Answer(ctx context.Context, node string, a *edgev1.ClientAnswer) (taken bool, err error)
}

// PeerHandler takes what other edges send. Its functions do not block.
type PeerHandler struct {
	Cancel func(*edgev1.Cancel)
	// Answer reports whether anybody waited for the answer.
	Answer func(*edgev1.ClientAnswer) bool
}

// newNode returns a name for this process among edges: letters and digits only,
// as subjects and ids need it.
func newNode() string { return rand.Text() }

// nodeLength is how long such names are, and the other part of request ids.
const nodeLength = 26

// nodeName reports whether a text is one that newNode may have made.
func nodeName(text string) bool {
	if len(text) != nodeLength {
		return false
	}
	for i := range len(text) {
		if c := text[i]; (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}
