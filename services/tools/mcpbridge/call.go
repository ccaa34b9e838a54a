package mcpbridge

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge/internal/client"
)

const (
	// What an upstream says during a call is passed on at this rate, and so many
	// messages at once; the rest is dropped.
	newsRate  = 50
	newsBurst = 100

	maxAttempts = 4 // to find a session that the server knows

	// patience is how long calls wait for an upstream after it was lost: one that
	// was started again is back by then.
	patience = 5 * time.Second
)

// CallTool implements [providerv1.ProviderServiceServer].
func (s *Service) CallTool(req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
	st, err := readState(req.GetRound().GetState(), req.GetPrincipal().GetId(), req.GetName())
	if err != nil {
		return err
	}
	if st.Kind == parkedCall {
		return s.resume(st, req, stream)
	}
	place, ok := s.known.Load().toolBy[req.GetName()]
	if !ok {
		return unknown("tool")
	}
	params := map[string]json.RawMessage{"arguments": req.GetArguments()}
	if len(req.GetArguments()) == 0 {
		params["arguments"] = json.RawMessage("{}")
	}
	if params["name"], err = json.Marshal(place.it.name); err != nil {
		return err
	}
	switch st.Kind {
	case modernCall:
		if err := st.addTo(params, req.GetRound()); err != nil {
			return err
		}
	case openPages:
		if !accepted(answers(req.GetRound().GetInputResponses()), st.Asked) {
			return sendResult(stream, refused("The user did not consent to open the page that this tool needs to have been opened. Do not call it again without being asked to."))
		}
	}
	u := place.by
	ctx, cancel := context.WithTimeout(stream.Context(), u.cfg.Timeout)
	defer cancel()
	if err := u.pool.slot(ctx); err != nil {
		return slotFault(err)
	}
	defer u.pool.free()
	f := newFlight(newID(), req.GetPrincipal().GetId(), req.GetName(), u, req.GetLogLevel())
	f.client.Store(readAbilities(req.GetRound().GetClientCapabilities()))
	call := &client.Call{
		Method: "tools/call", Params: params, Name: place.it.name, Bindings: place.it.bindings,
		Capabilities: f.client.Load().json(), LogLevel: f.level, WantsProgress: req.GetWantsProgress(),
		OnNotify: f.heard, OnRequest: f.asked,
	}
	started := s.calls.launch(ctx, f, func(ctx context.Context) outcome {
		raw, err := u.call(ctx, call)
		return outcome{raw, err}
	})
	if !started {
		return down(errStopping)
	}
	return s.follow(ctx, f, stream)
}

// resume gives a parked call its answers and follows it on.
func (s *Service) resume(st state, req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
	f := s.calls.resume(st.ID, req.GetPrincipal().GetId(), req.GetName())
	if f == nil {
		return errState
	}
	ctx, cancel := context.WithTimeout(stream.Context(), f.by.cfg.Timeout)
	defer cancel()
	if err := f.by.pool.slot(ctx); err != nil {
		if !s.calls.park(f) {
			f.end(err)
		}
		return slotFault(err)
	}
	defer f.by.pool.free()
	if caps := req.GetRound().GetClientCapabilities(); len(caps) > 0 {
		f.client.Store(readAbilities(caps))
	}
	given := answers(req.GetRound().GetInputResponses())
	for key, q := range f.waiting {
		if a, ok := answerTo(q.method, given[key]); ok {
			q.answer <- a
			delete(f.waiting, key)
		}
	}
	return s.follow(ctx, f, stream)
}

// follow passes on what comes of a call until it ends or has to wait for answers.
func (s *Service) follow(ctx context.Context, f *flight, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
	limit := rate.NewLimiter(newsRate, newsBurst)
	tell := func(m *providerv1.CallToolResponse) error {
		if !limit.Allow() {
			return nil
		}
		return stream.Send(m)
	}
	// What was said before a question or the end belongs before it.
	rest := func() error {
		for {
			select {
			case m := <-f.feed:
				if err := tell(m); err != nil {
					return err
				}
			default:
				return nil
			}
		}
	}
	fail := func(err error) error {
		f.end(err)
		return err
	}
	f.stillWaiting()
	for {
		if len(f.waiting) > 0 { // some were not answered: ask again
			parked, err := s.park(f, stream)
			if err != nil {
				return fail(err)
			}
			if parked {
				return nil
			}
		}
		select {
		case m := <-f.feed:
			if err := tell(m); err != nil {
				return fail(err)
			}
		case q := <-f.asks:
			if err := rest(); err != nil {
				return fail(err)
			}
			f.waitFor(q)
			f.stillWaiting()
		case out := <-f.done:
			if err := rest(); err != nil {
				return err
			}
			return s.finish(f, out, stream)
		case <-ctx.Done():
			return fail(context.Cause(ctx))
		}
	}
}

// waitFor notes a question, and those that came with it, under the keys that the
// client will answer to.
func (f *flight) waitFor(q *question) {
	f.waiting = map[string]*question{}
	for {
		f.waiting["r"+strconv.Itoa(len(f.waiting)+1)] = q
		select {
		case q = <-f.asks:
		default:
			return
		}
	}
}

// stillWaiting drops the questions that the upstream has withdrawn meanwhile.
func (f *flight) stillWaiting() {
	for key, q := range f.waiting {
		select {
		case <-q.gone:
			delete(f.waiting, key)
		default:
		}
	}
}

// park ends the round with the questions that are waiting. Where there is no room
// for another parked call they are declined, and the call goes on.
func (s *Service) park(f *flight, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) (bool, error) {
	asked := make(map[string]inputRequest, len(f.waiting))
	for key, q := range f.waiting {
		asked[key] = inputRequest{Method: q.method, Params: q.params}
	}
	st, err := state{Kind: parkedCall, Who: f.principal, Name: f.tool, ID: f.id}.bytes()
	if err != nil {
		return false, err
	}
	in, err := inputRequired(asked, st)
	if err != nil || !s.calls.park(f) {
		s.log.Warn("an upstream's question is declined: there is no room for it", "upstream", f.by.cfg.Name)
		for _, q := range f.waiting {
			q.decline()
		}
		clear(f.waiting)
		return false, nil
	}
	err = stream.Send(&providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_InputRequired{InputRequired: in}})
	if err != nil {
		s.calls.unpark(f)
		return false, err
	}
	return true, nil
}

// finish sends what a call has come to.
func (s *Service) finish(f *flight, out outcome, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
	if e, ok := errors.AsType[*client.Error](out.err); ok {
		asked := urlQuestions(e, f.client.Load())
		if asked == nil {
			res, err := f.by.toolError(e)
			if err != nil {
				return err
			}
			return sendResult(stream, res)
		}
		return sendQuestions(stream, asked, state{Kind: openPages, Who: f.principal, Name: f.tool, Asked: len(asked)})
	}
	if out.err != nil {
		if res := tooMuch(out.err, f.by.cfg); res != nil {
			return sendResult(stream, res)
		}
		return f.by.fault(out.err)
	}
	r, err := readResult(out.raw)
	if err != nil {
		return sendResult(stream, unreadable())
	}
	if r.ResultType == "input_required" {
		asked, err := r.modernQuestions(f.client.Load())
		if err != nil {
			return sendResult(stream, refused("The tool asks for something that this client cannot be asked for, so that it could not do its work."))
		}
		return sendQuestions(stream, asked, state{Kind: modernCall, Who: f.principal, Name: f.tool, Theirs: r.RequestState})
	}
	res, err := r.toolResult()
	if err != nil {
		res = unreadable()
	}
	return sendResult(stream, res)
}

func sendResult(stream grpc.ServerStreamingServer[providerv1.CallToolResponse], r *providerv1.ToolResult) error {
	return stream.Send(&providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Result{Result: r}})
}

func sendQuestions(stream grpc.ServerStreamingServer[providerv1.CallToolResponse], asked map[string]inputRequest, st state) error {
	b, err := st.bytes()
	if err != nil {
		return err
	}
	in, err := inputRequired(asked, b)
	if err != nil {
		return sendResult(stream, unreadable())
	}
	return stream.Send(&providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_InputRequired{InputRequired: in}})
}

// call makes a call of the upstream. One that was not looked at, as the server
// has forgotten the session, is made again in another; and an upstream that was
// lost only just now is waited for.
func (u *upstream) call(ctx context.Context, c *client.Call) (json.RawMessage, error) {
	var err error
	for range maxAttempts {
		arrival := u.pool.next()
		session, release, took := u.pool.take(ctx)
		if took != nil {
			err = errors.Join(took, err)
			select {
			case <-arrival:
				continue
			case <-time.After(u.patience()):
				return nil, err
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		var raw json.RawMessage
		raw, err = session.Do(ctx, c)
		release()
		if !errors.Is(err, client.ErrSessionGone) {
			return raw, err
		}
	}
	return nil, err
}
