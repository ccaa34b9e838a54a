package edge

import (
	"net/http"
	"strings"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// refusalKind is a row of the one table of refusals, statuses.
type refusalKind int

const (
	kindSyntax refusalKind = iota
	kindNotRequest
	kindParams
	kindMeta
	kindHeader
	kindVersion
	kindMethod
	kindTool
	kindOrigin
	kindCredential
	kindScope
	kindHTTPMethod
	kindMediaType
	kindTooLarge
	kindTooSlow
	kindHeaders
	kindFlood
	kindPeer
	kindInternal
	kindPath
	kindResult
	kindForbidden
	kindUnavailable
	kindCapability
	kindSession
	kindNotAcceptable
	kindCancelled
)

// telling is how a refusal is told. Codes of our own are outside of what JSON-RPC
// and MCP reserve.
type telling struct {
	modern, legacy int // HTTP status by era; modern too while the era is not known
	code           int // JSON-RPC
	reason         auditv1.Reason
}

// statuses is the one table of how each refusal is told. Legacy clients take
// every status but 200 for a broken transport and hide the error from the model,
// so there protocol errors travel in 200.
func statuses(kind refusalKind) telling {
	switch kind {
	case kindSyntax:
		return telling{http.StatusBadRequest, http.StatusBadRequest, -32700, auditv1.Reason_REASON_MALFORMED_REQUEST}
	case kindNotRequest:
		return telling{http.StatusBadRequest, http.StatusBadRequest, -32600, auditv1.Reason_REASON_MALFORMED_REQUEST}
	case kindParams:
		return telling{http.StatusBadRequest, http.StatusOK, -32602, auditv1.Reason_REASON_INVALID_PARAMS}
	case kindMeta:
		return telling{http.StatusBadRequest, http.StatusBadRequest, -32602, auditv1.Reason_REASON_INVALID_PARAMS}
	case kindHeader:
		return telling{http.StatusBadRequest, http.StatusBadRequest, -32020, auditv1.Reason_REASON_HEADER_MISMATCH}
	case kindVersion:
		return telling{http.StatusBadRequest, http.StatusBadRequest, -32022, auditv1.Reason_REASON_UNSUPPORTED_VERSION}
	case kindMethod:
		return telling{http.StatusNotFound, http.StatusOK, -32601, auditv1.Reason_REASON_METHOD_UNKNOWN}
	case kindTool:
		return telling{http.StatusBadRequest, http.StatusOK, -32602, auditv1.Reason_REASON_TOOL_UNKNOWN}
	case kindOrigin:
		return telling{http.StatusForbidden, http.StatusForbidden, -31403, auditv1.Reason_REASON_ORIGIN_REFUSED}
	case kindCredential:
		return telling{http.StatusUnauthorized, http.StatusUnauthorized, -31401, auditv1.Reason_REASON_UNAUTHENTICATED}
	case kindScope:
		return telling{http.StatusForbidden, http.StatusForbidden, -31403, auditv1.Reason_REASON_INSUFFICIENT_SCOPE}
	case kindHTTPMethod:
		return telling{http.StatusMethodNotAllowed, http.StatusMethodNotAllowed, -31405, auditv1.Reason_REASON_UNSPECIFIED}
	case kindMediaType:
		return telling{http.StatusUnsupportedMediaType, http.StatusUnsupportedMediaType, -31415, auditv1.Reason_REASON_MALFORMED_REQUEST}
	case kindTooLarge:
		return telling{http.StatusRequestEntityTooLarge, http.StatusRequestEntityTooLarge, -31413, auditv1.Reason_REASON_PAYLOAD_TOO_LARGE}
	case kindTooSlow:
		return telling{http.StatusRequestTimeout, http.StatusRequestTimeout, -31408, auditv1.Reason_REASON_MALFORMED_REQUEST}
	case kindHeaders:
		return telling{http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestHeaderFieldsTooLarge, -31431, auditv1.Reason_REASON_MALFORMED_REQUEST}
	case kindFlood:
		return telling{http.StatusTooManyRequests, http.StatusTooManyRequests, -31029, auditv1.Reason_REASON_QUOTA_EXCEEDED}
	case kindPeer:
		return telling{http.StatusServiceUnavailable, http.StatusServiceUnavailable, -31503, auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE}
	case kindPath:
		return telling{http.StatusNotFound, http.StatusNotFound, -31404, auditv1.Reason_REASON_UNSPECIFIED}
	case kindSession:
		// The status is what tells a client to begin a new session.
		return telling{http.StatusNotFound, http.StatusNotFound, -31404, auditv1.Reason_REASON_INVALID_PARAMS}
	case kindNotAcceptable:
		return telling{http.StatusNotAcceptable, http.StatusNotAcceptable, -31406, auditv1.Reason_REASON_MALFORMED_REQUEST}
	case kindCancelled:
		return telling{http.StatusOK, http.StatusOK, -31499, auditv1.Reason_REASON_CANCELLED}
	case kindResult:
		// A refusal the model should read: a tool result, not an error.
		return telling{http.StatusOK, http.StatusOK, 0, auditv1.Reason_REASON_UNSPECIFIED}
	case kindForbidden:
		// As a denied call comes with 200: it is said of what was asked for, and
		// clients show it whole only so. Other statuses are a broken transport to
		// many of them.
		return telling{http.StatusOK, http.StatusOK, -31403, auditv1.Reason_REASON_POLICY_DENIED}
	case kindUnavailable:
		// One provider is away, not this server.
		return telling{http.StatusOK, http.StatusOK, -31503, auditv1.Reason_REASON_TOOL_UNAVAILABLE}
	case kindCapability:
		return telling{http.StatusBadRequest, http.StatusOK, -32021, auditv1.Reason_REASON_INVALID_PARAMS}
	default:
		return telling{http.StatusInternalServerError, http.StatusOK, -32603, auditv1.Reason_REASON_INTERNAL}
	}
}

// refusal is a request that was not served: what is told, and what is recorded.
type refusal struct {
	kind refusalKind
	// reason is the table's unless set.
	reason auditv1.Reason
	// message says what was wrong and what to do, in sentences without the last
	// full stop. It holds nothing that the caller sent.
	message string
	// decision is the id of the decision; a new one is made when it is empty.
	decision string
	// approval is the id of the approval that the request waits for, or did.
	approval string
	// policy and limit name what decided, where something did.
	policy, limit string
	// retryAfter is set when waiting helps.
	retryAfter time.Duration
	retryable  bool
	// challenge is for WWW-Authenticate.
	challenge string
	// requested is the version that was asked for, with kindVersion.
	requested string
	// uri is of the resource that is not there, and is told.
	uri string
	// capabilities is a JSON object of what the client lacks, with kindCapability.
	capabilities []byte
	// complete says that the message tells all there is to tell: what, why, and
	// what to do. Only the decision is added.
	complete bool
	// violations say what is wrong with the arguments.
	violations []*executorv1.Violation
	// verdict is DENY unless set: a call that was allowed and then failed is not
	// a denial.
	verdict auditv1.Verdict
	// from is where the message is from, if a tool has said it.
	from *toolv1.Provenance
	// spent is what the call was charged beside its cost.
	spent []*auditv1.Used
	// recorded means that another service has put it on record.
	recorded bool
}

// refuse makes a refusal that the edge itself records.
func refuse(kind refusalKind, message string) *refusal {
	return &refusal{kind: kind, message: message, reason: statuses(kind).reason}
}

// reasonName is what people and programs see of a reason: POLICY_DENIED.
func reasonName(r auditv1.Reason) string {
	return strings.TrimPrefix(r.String(), "REASON_")
}

// advice says for each reason of a tool's refusal what can be done about it, as
// far as waiting for a known time is not all. Models act on it, so each is one
// plain imperative.
func advice(r auditv1.Reason, timeKnown bool) string {
	switch r {
	case auditv1.Reason_REASON_POLICY_DENIED, auditv1.Reason_REASON_CREDENTIAL_RESTRICTED:
		return "Do not retry; ask whoever runs this server for access"
	case auditv1.Reason_REASON_APPROVAL_REQUIRED:
		return "Do not retry until a person has approved exactly this call"
	case auditv1.Reason_REASON_TOOL_WITHHELD:
		return "Do not retry; whoever runs this server has to release the tool first"
	case auditv1.Reason_REASON_STEP_BUDGET_EXCEEDED:
		return "Do not retry; stop here and report what was done so far"
	case auditv1.Reason_REASON_LOOP_DETECTED:
		return "Do not repeat the call; take another way, or stop and report"
	case auditv1.Reason_REASON_INVALID_ARGUMENTS:
		return "Correct the arguments and call again"
	case auditv1.Reason_REASON_GUARD_BLOCKED, auditv1.Reason_REASON_QUERY_REFUSED:
		return "Do not retry unchanged"
	case auditv1.Reason_REASON_TOOL_TIMEOUT:
		return "It is not known whether it was done; look before calling again"
	case auditv1.Reason_REASON_RESULT_TOO_LARGE:
		return "Ask for less, for instance by narrower arguments"
	case auditv1.Reason_REASON_QUOTA_EXCEEDED, auditv1.Reason_REASON_CONCURRENCY_EXCEEDED,
		auditv1.Reason_REASON_TOOL_UNAVAILABLE, auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE,
		auditv1.Reason_REASON_AUDIT_UNAVAILABLE:
		if timeKnown {
			return ""
		}
		return "Try again in a moment"
	default:
		return "A retry is not likely to help"
	}
}
