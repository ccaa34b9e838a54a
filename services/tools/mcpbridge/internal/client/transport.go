package client

import (
	"context"
	"net/http"
)

// outgoing is a message on its way to the server.
type outgoing struct {
	id       string // of a request; empty for what has no answer
	method   string
	name     string      // for Mcp-Name
	mirrored http.Header // Mcp-Param-*
	body     []byte
}

// transport carries messages to one server.
type transport interface {
	// start begins to listen for what needs no request of ours, until ctx ends.
	start(ctx context.Context, s *Session)
	// era tells what was settled; an empty revision means that nothing was.
	era(modern bool, revision string)
	// exchange sends a request and waits for its response. What else comes with it
	// goes to other, as far as the transport can tell.
	exchange(ctx context.Context, req outgoing, other func(message) error) (message, error)
	// send sends what has no answer.
	send(ctx context.Context, msg outgoing) error
	// headers reports whether messages have headers, and a cancelled exchange is
	// seen by the server.
	headers() bool
	// standing asks a legacy server for the stream that belongs to no request, and
	// reads it to its end. It returns errNoStream where there is none to be had.
	standing(ctx context.Context, other func(message) error) error
	// close ends the conversation.
	close()
}
