package edge

import (
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// toolsCall is the method that most of this package is about.
const toolsCall = "tools/call"

// handlerFor returns what serves a method in an era. What is not here is not served: also
// what the protocol has but this server does not declare.
func handlerFor(e era, method string) func(*exchange) *refusal {
	switch method {
	case toolsCall:
		return (*exchange).callTool
	case "tools/list":
		return (*exchange).listTools
	case "resources/list":
		return (*exchange).listResources
	case "resources/templates/list":
		return (*exchange).listTemplates
	case "resources/read":
		return (*exchange).readResource
	case "prompts/list":
		return (*exchange).listPrompts
	case "prompts/get":
		return (*exchange).getPrompt
	case "completion/complete":
		return (*exchange).complete
	case "server/discover":
		if e == eraModern {
			return (*exchange).discover
		}
	case "initialize":
		if e == eraLegacy {
			return (*exchange).initialize
		}
	case "ping":
		if e == eraLegacy {
			return (*exchange).pong
		}
	case "logging/setLevel":
		if e == eraLegacy {
			return (*exchange).setLevel
		}
	case "resources/subscribe":
		if e == eraLegacy {
			return (*exchange).subscribe
		}
	case "resources/unsubscribe":
		if e == eraLegacy {
			return (*exchange).unsubscribe
		}
	case methodListen:
		if e == eraModern {
			return (*exchange).listen
		}
	}
	return nil
}

const unservedMethod = "This method is not served. The capabilities in the answer to server/discover or initialize say what is"

// dispatch serves the method of a message that passed all checks of form.
func (x *exchange) dispatch() *refusal {
	method := x.said
	if x.id == nil {
		return x.notified(method)
	}
	handle := handlerFor(x.era, method)
	if handle == nil {
		return refuse(kindMethod, unservedMethod)
	}
	if optional(method) {
		now, refused := x.offers()
		if refused != nil {
			return refused
		}
		if !now.has(method) {
			return refuse(kindMethod, unservedMethod)
		}
	}
	x.method = method
	if refused := x.findContext(); refused != nil {
		return refused
	}
	if method != toolsCall { // a call is checked when it is allowed
		if refused := x.checkQuota(1); refused != nil {
			return refused
		}
	}
	if x.session != nil {
		defer x.cancellable()()
	}
	return handle(x)
}

// notified takes a notification.
func (x *exchange) notified(method string) *refusal {
	if !strings.HasPrefix(method, "notifications/") {
		return refuse(kindNotRequest, "The message has no id, so it could not be answered. Send an id")
	}
	x.method = notificationName(method)
	if refused := x.findContext(); refused != nil {
		return refused
	}
	if refused := x.checkQuota(1); refused != nil {
		return refused
	}
	if method == "notifications/cancelled" && x.era == eraLegacy {
		x.takeCancellation()
	}
	x.out = x.out[:0]
	x.write(http.StatusAccepted, nil)
	return nil
}

// notificationName returns the names that clients are known to send, and one for
// all others: names end up in series and counts.
func notificationName(method string) string {
	switch method {
	case "notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/roots/list_changed":
		return method
	}
	return "notifications/other"
}

// authenticate finds out who calls: from memory, or from auth. It fails closed.
func (x *exchange) authenticate() *refusal {
	cred, problem := x.s.credentialOf(x.r, x.start)
	if problem != credentialFine {
		refused := refuse(kindCredential, problem)
		refused.challenge = challenge(flawOf(problem), x.aboutResource(), nil, "")
		return refused
	}
	x.credential = cred
	x.cacheKey = x.s.remember.key(cred, x.addressText())
	p, ticket := x.s.remember.Get(x.cacheKey, x.start)
	if p != nil && rememberable(cred) {
		x.principal = p
		return nil
	}
	x.earlySpan()
	ctx, cancel := x.peerContext()
	defer cancel()
	resp, err := x.s.auth.Authenticate(ctx, &authv1.AuthenticateRequest{
		Credential: cred, Origin: &authv1.Origin{Address: x.addressText()},
	})
	if err != nil {
		return x.peerFailed("auth", err)
	}
	if resp.GetPrincipal() == nil {
		return x.badCredential(resp.GetChallenge(), resp.GetRetryAfter())
	}
	x.principal = resp.GetPrincipal()
	x.keepReceipt(resp)
	if rememberable(cred) {
		x.s.remember.Put(x.cacheKey, x.principal, resp.GetValidFor().AsDuration(), ticket)
	}
	return nil
}

// keepReceipt puts what auth has given for a proof into the credential. The one
// that was sent stays as it is.
func (x *exchange) keepReceipt(resp *authv1.AuthenticateResponse) {
	if receipt := resp.GetProofReceipt(); len(receipt) > 0 {
		x.credential = proto.CloneOf(x.credential)
		x.credential.ProofReceipt = receipt
	}
}

// badCredential answers a credential that auth does not accept, which it has
// recorded. Why is not told. The wait is set where there were too many of these.
func (x *exchange) badCredential(why authv1.ChallengeError, wait *durationpb.Duration) *refusal {
	x.s.remember.Forget(x.cacheKey)
	refused := &refusal{
		kind: kindCredential, reason: auditv1.Reason_REASON_UNAUTHENTICATED, recorded: true,
		message: "The credential is not valid, or no longer. Use another, or ask whoever runs this server for one",
	}
	flaw := flawToken
	switch {
	case why == authv1.ChallengeError_CHALLENGE_ERROR_DPOP_PROOF:
		flaw, refused.message = flawProof, "The DPoP proof is not valid for this request. Send a new one with each request"
	case why == authv1.ChallengeError_CHALLENGE_ERROR_DPOP_NEEDED:
		flaw, refused.message = flawUnproved, "The token or key has to be sent with a DPoP proof: Authorization: DPoP TOKEN, and DPoP: PROOF, a new one with each request"
	case x.credential.GetScheme() == authv1.Scheme_SCHEME_CERTIFICATE:
		flaw = flawAbsent
	}
	refused.challenge = challenge(flaw, x.aboutResource(), nil, "")
	if wait.AsDuration() > 0 {
		// The challenge stays: a client that shows another credential is served at once.
		refused.kind, refused.reason = kindFlood, auditv1.Reason_REASON_TOO_MANY_FAILURES
		refused.retryAfter, refused.retryable = wait.AsDuration(), true
		refused.message = "The credential is not valid, or no longer, and there were too many failed attempts. Use another, or wait"
	}
	return refused
}

// peerFailed answers when auth or quota could not say anything: refuse. Which
// limits may be passed without a count is decided in the quota service, rule by
// rule; when it does not even answer, nobody knows of such a rule.
func (x *exchange) peerFailed(peer string, err error) *refusal {
	if x.cancelled() {
		return x.refuseCancelled(false)
	}
	if x.wanted().Err() != nil {
		return x.clientGone()
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Internal, codes.Unimplemented, codes.PermissionDenied:
		// Not a matter of reaching it: one of us has a bug, or a certificate.
		x.s.log.ErrorContext(x.ctx, "a service refused the edge", "peer", peer, "err", err)
		return refuse(kindInternal, internalMessage)
	}
	if x.s.mutePeers.CompareAndSwap(false, true) {
		x.s.log.WarnContext(x.ctx, "a service does not answer; requests are refused", "peer", peer, "err", err)
	}
	refused := refuse(kindPeer, "The service that decides on this is not available just now. Try again in a moment")
	refused.retryAfter, refused.retryable = time.Second, true
	return refused
}

// clientGone is for a request whose client has gone away: nobody reads it.
func (x *exchange) clientGone() *refusal {
	refused := refuse(kindPeer, "The request was cancelled")
	refused.reason, refused.recorded = auditv1.Reason_REASON_CANCELLED, true
	return refused
}

func (x *exchange) discover() *refusal {
	now, refused := x.offers()
	if refused != nil {
		return refused
	}
	x.beginResult()
	x.out = append(x.out, `"supportedVersions":`+supported+`,`...)
	x.out = append(now.appendCapabilities(x.out), x.s.words.discover...)
	x.endResult()
	return nil
}

func (x *exchange) initialize() *refusal {
	m := &x.msg
	if m.ProtocolVersion.Kind != jsonrpc.String {
		return refuse(kindParams, "params.protocolVersion has to be a string")
	}
	now, refused := x.offers()
	if refused != nil {
		return refused
	}
	// The newest legacy revision for whatever else is asked for, also for the
	// modern one: it cannot be negotiated this way.
	x.version = version2511
	if m.Is(m.ProtocolVersion, version2506) {
		x.version = version2506
	}
	x.beginSession()
	x.beginResult()
	x.out = append(x.out, `"protocolVersion":"`...)
	x.out = append(x.out, x.version...)
	x.out = append(x.out, `",`...)
	x.out = append(now.appendCapabilities(x.out), x.s.words.aboutUs...)
	x.endResult()
	return nil
}

func (x *exchange) pong() *refusal {
	x.beginResult()
	x.endResult()
	return nil
}
