package openapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/credential"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi/internal/egress"
)

// retryDown and retryBusy are when a call that was not sent may be made again.
const (
	retryDown = 5 * time.Second
	retryBusy = time.Second
)

// CallTool implements [providerv1.ProviderServiceServer].
func (s *Service) CallTool(req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
	t := s.listed.Load().tools[req.GetName()]
	if t == nil {
		return unknown("tool")
	}
	ctx, cancel := context.WithTimeout(stream.Context(), t.by.cfg.patience())
	defer cancel()
	result, err := t.call(ctx, req)
	if err != nil {
		return err
	}
	return stream.Send(&providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Result{Result: result}})
}

// call makes the request and reads the answer.
func (t *tool) call(ctx context.Context, req *providerv1.CallToolRequest) (*providerv1.ToolResult, error) {
	a := t.by
	ctx, used := credential.Follow(ctx)
	out, err := t.request(ctx, req)
	if err != nil {
		return nil, err
	}
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	default:
		return nil, fault.New(codes.Unavailable, providerv1.Reason_REASON_UPSTREAM,
			"The API behind this is busy; it may work later.").Because(errBusy).After(retryBusy)
	}
	resp, err := a.client.Do(out)
	if err != nil {
		return nil, a.failure(ctx, cause(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusUnauthorized {
		used.Refused()
	}
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		a.log.Warn("the API does not accept our credentials, or not for this", "tool", req.GetName(), "status", resp.StatusCode)
	}
	n := &answer{tool: t, resp: resp, used: used}
	if n.streams() { // which may have no end
		return n.unreadable("with a stream of events, which is not passed on: ask it for an answer that has an end, if it has one"), nil
	}
	if n.body, err = io.ReadAll(io.LimitReader(resp.Body, int64(a.cfg.MaxResultBytes)+1)); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, down(cause(err))
	}
	n.large = len(n.body) > a.cfg.MaxResultBytes
	if n.large {
		n.body = n.body[:a.cfg.MaxResultBytes]
	}
	n.body = used.Clean(n.body)
	return n.result(), nil
}

// request writes the arguments as a request.
func (t *tool) request(ctx context.Context, req *providerv1.CallToolRequest) (*http.Request, error) {
	parts, err := t.plan.Build(req.GetArguments(), func(name string) bool { return t.by.credentials.Takes("query", name) })
	if err != nil {
		return nil, badArguments(err)
	}
	target := *t.base
	if target.Path, err = url.PathUnescape(parts.Path); err != nil {
		return nil, badArguments(errors.New("the path cannot be written"))
	}
	target.Path, target.RawPath = t.base.Path+target.Path, t.base.EscapedPath()+parts.Path
	target.RawQuery = parts.Query
	var body io.Reader
	if parts.Body != nil {
		body = bytes.NewReader(parts.Body)
	}
	out, err := http.NewRequestWithContext(ctx, t.plan.Method, target.String(), body)
	if err != nil {
		return nil, badArguments(errors.New("the request cannot be written"))
	}
	out.Header = parts.Header
	out.Header.Set("User-Agent", "sallyport/"+t.by.version)
	out.Header.Set("Accept", "application/json, text/plain;q=0.9, */*;q=0.5")
	if key := req.GetIdempotencyKey(); t.plan.IdempotencyKey && key != "" {
		// Clients choose keys, each for itself, and the API takes us all for one.
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", req.GetPrincipal().GetId(), req.GetName(), key))
		out.Header.Set("Idempotency-Key", hex.EncodeToString(sum[:16]))
	}
	return out, nil
}

func badArguments(err error) error {
	return fault.New(codes.InvalidArgument, providerv1.Reason_REASON_ARGUMENTS, "%s", truncate(err.Error(), 512))
}

// failure makes a fault of an error that no answer stands behind. Only where nothing
// was sent does it say when to come back.
func (a *api) failure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, egress.ErrNotConnected):
		a.log.Warn("the API cannot be reached", "err", clip(err.Error()))
		return down(err).After(retryDown)
	}
	a.log.Warn("the API did not answer", "err", clip(err.Error()))
	return down(err)
}
