package mcpbridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

// maxSaid bounds what of an upstream's error message is passed on.
const maxSaid = 1024

// said returns the message of an upstream's error, for the model.
func said(e *client.Error) string {
	text := []rune(client.Printable(e.Message))
	if len(text) > maxSaid {
		text = append(text[:maxSaid], '…')
	}
	if len(text) == 0 {
		return "no message"
	}
	return string(text)
}

// toolError makes of an upstream's JSON-RPC error what a model can act on. Bad
// arguments are a fault of the contract, and so is a tool that is gone. Anything
// else is the tool's own answer: the model reads it, and decides.
func (u *upstream) toolError(e *client.Error) (*providerv1.ToolResult, error) {
	switch e.Code {
	case client.CodeInvalidParams:
		return nil, badArguments(e)
	case client.CodeMethodNotFound:
		poke(u.relist)
		return nil, unknown("tool")
	}
	return refused(fmt.Sprintf("The tool's server answered with error %d: %s", e.Code, said(e))), nil
}

func badArguments(e *client.Error) error {
	return fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS, "%s", said(e))
}

// fault makes a fault of an error that no answer of the upstream stands behind.
func (u *upstream) fault(err error) error {
	status, isStatus := errors.AsType[*client.StatusError](err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, errExpired):
		return errState
	case isStatus && (status.Code == 401 || status.Code == 403):
		u.log.Warn("the upstream does not accept our credentials", "status", status.Code)
	case !errors.Is(err, errDown) && !errors.Is(err, errStopping):
		poke(u.doubt)
	}
	f := down(err)
	if errors.Is(err, errDown) { // nothing was sent, so nothing was done
		f = f.After(retryDown)
	}
	return f
}

// retryDown and retryBusy are when a call that was not sent may be made again.
const (
	retryDown = 5 * time.Second
	retryBusy = time.Second
)

// slotFault is for a call that found no room.
func slotFault(err error) error {
	if !errors.Is(err, errBusy) {
		return err
	}
	return fault.New(codes.Unavailable, providerv1.Reason_REASON_UPSTREAM,
		"The server behind this is busy; it may work later.").Because(err).After(retryBusy)
}

// tooMuch is the result where the upstream's was larger than what is taken; nil
// if err says something else.
func tooMuch(err error, u Upstream) *providerv1.ToolResult {
	if !errors.Is(err, client.ErrTooLarge) {
		return nil
	}
	return refused(fmt.Sprintf("The tool's result is larger than the %d bytes that are taken. Ask it for less.", u.MaxResultBytes))
}

// unreadable is the result where the upstream's was none. The tool may have done
// its work, so that it is not for the executor to call it again.
func unreadable() *providerv1.ToolResult {
	return refused("The tool's server gave an answer that breaks the protocol. The tool may have done its work.")
}
