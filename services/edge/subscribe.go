package edge

import (
	"errors"
	"slices"
	"time"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	edgev1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/edge/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// Bounds of subscriptions to resources, in a session and in one request to
// listen.
const (
	maxSubscriptions = 256
	maxURI           = 512 // as the contract of auth has it
)

// subscribe keeps, for a session, that the client wants to hear of changes of a
// resource. They are sent on the session's stream, so there has to be a session.
func (x *exchange) subscribe() *refusal {
	uri, refused := x.subscribable()
	if refused != nil {
		return refused
	}
	if refused := x.authorizeSubscription(uri); refused != nil {
		return refused
	}
	refused = x.updateSession(func(state *edgev1.SessionState) error {
		switch {
		case slices.Contains(state.GetSubscriptions(), uri):
		case len(state.GetSubscriptions()) >= maxSubscriptions:
			return errTooMany
		default:
			state.Subscriptions = append(state.Subscriptions, uri)
		}
		return nil
	})
	if refused != nil {
		return refused
	}
	x.beginResult()
	x.endResult()
	return nil
}

// unsubscribe is the opposite. It needs no permission.
func (x *exchange) unsubscribe() *refusal {
	uri, refused := x.subscribable()
	if refused != nil {
		return refused
	}
	refused = x.updateSession(func(state *edgev1.SessionState) error {
		state.Subscriptions = slices.DeleteFunc(state.Subscriptions, func(s string) bool { return s == uri })
		return nil
	})
	if refused != nil {
		return refused
	}
	x.beginResult()
	x.endResult()
	return nil
}

var errTooMany = errors.New("too many subscriptions")

// stateFailed answers when what is kept of a session could not be changed.
func (x *exchange) stateFailed(err error) *refusal {
	if errors.Is(err, errTooMany) {
		return refuse(kindParams, "A session may have 256 subscriptions. Unsubscribe from some first")
	}
	if x.cancelled() {
		return x.refuseCancelled(false)
	}
	x.s.told(x.ctx, err)
	refused := refuse(kindPeer, "What is kept of sessions is not available just now. Try again in a moment")
	refused.retryAfter, refused.retryable = time.Second, true
	return refused
}

// subscribable checks that there are a session and a URI.
func (x *exchange) subscribable() (string, *refusal) {
	if x.session == nil {
		return "", refuse(kindParams, "Subscriptions belong to a session. Send the Mcp-Session-Id that initialize has returned")
	}
	uri := x.msg.Text(x.msg.URI)
	if x.msg.URI.Kind != jsonrpc.String || uri == "" || len(uri) > maxURI {
		return "", refuse(kindParams, "params.uri has to be the URI of a resource, of at most 512 bytes")
	}
	return uri, nil
}

// authorizeSubscription asks auth whether the caller may hear of changes of a
// resource, or of lists if uri is empty.
func (x *exchange) authorizeSubscription(uri string) *refusal {
	_, refused := x.authorize(authv1.Action_ACTION_SUBSCRIBE, uri, noArguments())
	return refused
}

// mayRead asks auth which of some resources the caller may read now. Policies may
// have changed since he subscribed.
func (x *exchange) mayRead(uris []string) ([]string, error) {
	ctx, cancel := x.peerContext()
	defer cancel()
	resp, err := x.s.auth.FilterTargets(ctx, &authv1.FilterTargetsRequest{
		Credential: x.credential, Origin: x.origin(), Action: authv1.Action_ACTION_RESOURCES_READ, Targets: uris,
	})
	if err != nil {
		return nil, err
	}
	if resp.GetPrincipal() == nil {
		return nil, errCredentialOver
	}
	return resp.GetAllowed(), nil
}
