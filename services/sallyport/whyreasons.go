package main

import (
	"strings"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// meaning says in a sentence what a reason means, and in another what to do. A
// reason that a later version has written is not known here.
func meaning(r auditv1.Reason) (means, next string) {
	switch r {
	case auditv1.Reason_REASON_UNSPECIFIED:
		return "A policy permits it, and none forbids it.",
			"Nothing has to be done."

	case auditv1.Reason_REASON_UNAUTHENTICATED:
		return "The request carried no credential.",
			"Give the client a key: sallyport key create NAME --role ROLE. It goes into the header Authorization: Bearer or X-API-Key."
	case auditv1.Reason_REASON_CREDENTIAL_MALFORMED:
		return "What was shown as a credential has not the form of anything that was ever issued.",
			"Look at the client's configuration: the key may be cut off, mistyped, or meant for another server. If nobody misses it, somebody may be guessing."
	case auditv1.Reason_REASON_CREDENTIAL_UNKNOWN:
		return "The credential has the right form, and nobody has it.",
			"Find out from where the client has its key; it may be of another installation. If nobody misses it, somebody may be guessing."
	case auditv1.Reason_REASON_CREDENTIAL_EXPIRED:
		return "The credential is past its expiry.",
			"Make a new key: sallyport key create NAME --role ROLE; with a token, the client has to get a new one."
	case auditv1.Reason_REASON_CREDENTIAL_REVOKED:
		return "The credential was revoked.",
			"If the caller shall go on, make a new key for it. If it was revoked because it leaked, somebody else may be using it: look at the address."
	case auditv1.Reason_REASON_CREDENTIAL_RESTRICTED:
		return "The credential is good, and may not be used from this address or for this tool; or it needs a proof by DPoP and had none that is good.",
			"Look at what the key is restricted or bound to: sallyport key list -o json. Neither is changed; make another key if it is too narrow. A proof fails, too, where roles.edge.public_url is not the URL that clients use."
	case auditv1.Reason_REASON_TOO_MANY_FAILURES:
		return "The credential is not good, and there were too many like it of late from this address, or with this key.",
			"Look at the address: a program with an old key, or somebody trying. Good credentials from there are served all the same."

	case auditv1.Reason_REASON_INSUFFICIENT_SCOPE:
		return "The token lacks scopes that the tool needs.",
			"The client was told which scopes to ask for; let its user log in again and agree, or let the authorization server allow them."
	case auditv1.Reason_REASON_POLICY_DENIED:
		return "A policy forbids it, or none permits it.",
			"If it should be allowed, change the caller's roles or the policies, and try it before: sallyport policy diff PATH --replay 24h."
	case auditv1.Reason_REASON_APPROVAL_REQUIRED:
		return "A policy wants a human to approve exactly this call.",
			"Somebody has to approve it: sallyport approvals list. After that the caller has to make the same call again."
	case auditv1.Reason_REASON_TOOL_UNKNOWN:
		return "There is no such tool, resource or prompt, or none the caller could know of.",
			"Look for the name in sallyport tool list; the service that has it may not have started."
	case auditv1.Reason_REASON_TOOL_WITHHELD:
		return "The tool is there, and withheld until somebody approves its definition.",
			"See what is new about it, then release it: sallyport tool diff NAME, sallyport tool approve NAME."
	case auditv1.Reason_REASON_GRANT_INVALID:
		return "The executor was asked to do something that was not granted: the grant was forged, expired, used before, or for another call.",
			"Usually a call that waited too long, or a tool that changed between decision and call: try again. If that does not explain it, look at who can reach the executor: this is what a captured edge looks like."

	case auditv1.Reason_REASON_QUOTA_EXCEEDED:
		return "A rate limit or quota is used up.",
			"Wait as long as the answer says. If the limit is too low for honest use, raise the rule in roles.quota.rules."
	case auditv1.Reason_REASON_CONCURRENCY_EXCEEDED:
		return "Too many calls were in flight at once.",
			"Try again when some have ended. Look for calls that hang: sallyport audit tail."
	case auditv1.Reason_REASON_STEP_BUDGET_EXCEEDED:
		return "The context, one task of an agent, has used up its steps.",
			"Find out whether the agent goes in circles: sallyport audit tail --principal WHO. If the task is honest work, raise the budget in roles.quota.rules."
	case auditv1.Reason_REASON_LOOP_DETECTED:
		return "The same call was repeated too often in one context.",
			"The agent is most likely in a loop: stop it, and look at what the tool has answered."

	case auditv1.Reason_REASON_PAYLOAD_TOO_LARGE:
		return "The body of the request was larger than the limit.",
			"Let the client send less, or raise the limit of the edge's section."
	case auditv1.Reason_REASON_MALFORMED_REQUEST:
		return "The body was not one strict JSON-RPC message.",
			"The client has a fault, or is none: duplicate members, trailing bytes, bad UTF-8 and batches are refused."
	case auditv1.Reason_REASON_UNSUPPORTED_VERSION:
		return "The client speaks a protocol revision that is not served.",
			"Update the client; it was told which revisions are served."
	case auditv1.Reason_REASON_HEADER_MISMATCH:
		return "A header is missing, or does not agree with the body.",
			"The client has a fault, or a proxy between it and the edge changes headers."
	case auditv1.Reason_REASON_METHOD_UNKNOWN:
		return "The method is not one that is served in this revision.",
			"Usually harmless: clients try what they know. Update the client if something is missing."
	case auditv1.Reason_REASON_ORIGIN_REFUSED:
		return "The Host or Origin header is not on the edge's list.",
			"If a web page shall be a client, add its origin to the edge's section. If not, a page somebody visited has tried to reach the server."
	case auditv1.Reason_REASON_INVALID_ARGUMENTS:
		return "The arguments break the tool's schema or rules.",
			"The caller was told which argument and why; models correct themselves. If they do not, look at the tool's description."
	case auditv1.Reason_REASON_INVALID_PARAMS:
		return "The parameters of the request are wrong.",
			"The client has a fault; it was told which parameter."

	case auditv1.Reason_REASON_GUARD_BLOCKED:
		return "A guard refused what was sent or what came back.",
			"Read the message: it says which guard. Do not loosen it before somebody has looked at the text."
	case auditv1.Reason_REASON_QUERY_REFUSED:
		return "The statement is not a read, or reaches what the caller may not see.",
			"Nothing was done to the database. If the caller needs to write, give it a tool for exactly that."

	case auditv1.Reason_REASON_TOOL_TIMEOUT:
		return "The tool answered too late; whether it did something is not known.",
			"Look at what the tool has done before it is called again, if it changes anything; then at why it is slow."
	case auditv1.Reason_REASON_TOOL_ERROR:
		return "The tool reported an error of its own.",
			"The caller was told the tool's words. If they do not explain it, look at the logs of the tool service by the trace id."
	case auditv1.Reason_REASON_TOOL_UNAVAILABLE:
		return "The tool service cannot be reached.",
			"See whether it runs: sallyport tool list shows it as not available; then look at its log."
	case auditv1.Reason_REASON_RESULT_TOO_LARGE:
		return "The tool did it, and its result was larger than the limit.",
			"Let the caller ask for less; or raise the limit in roles.executor."
	case auditv1.Reason_REASON_RESULT_INVALID:
		return "The tool did it, and its result breaks the tool's own output schema.",
			"The tool has a fault; tell whoever makes it."
	case auditv1.Reason_REASON_REPEATED:
		return "A call with the same idempotency key was made before, so the tool was not called again.",
			"Use a new key for a new call."

	case auditv1.Reason_REASON_DEPENDENCY_UNAVAILABLE:
		return "A service of the gateway did not answer, so the request was refused.",
			"Look at /readyz?verbose of each process. Calls go through again by themselves when it is back."
	case auditv1.Reason_REASON_AUDIT_UNAVAILABLE:
		return "The audit stream did not acknowledge, so the call was not made.",
			"Look at NATS: whether it runs, and whether its disk is full."
	case auditv1.Reason_REASON_CANCELLED:
		return "The client went away, or took the request back.",
			"Nothing has to be done, unless it happens often: then look at the client's time-outs."
	case auditv1.Reason_REASON_INTERNAL:
		return "The gateway made a mistake.",
			"Look for the trace id in its logs, and report it."
	}
	return "This version of the program does not know the reason.",
		"Use the version that the services have: sallyport version."
}

// reasonName is a reason as people see it, "" for none.
func reasonName(r auditv1.Reason) string {
	if r == auditv1.Reason_REASON_UNSPECIFIED {
		return ""
	}
	return strings.TrimPrefix(r.String(), "REASON_")
}

// verdictName is a verdict as people see it.
func verdictName(v auditv1.Verdict) string {
	if v == auditv1.Verdict_VERDICT_UNSPECIFIED {
		return "depends"
	}
	return strings.ToLower(strings.TrimPrefix(v.String(), "VERDICT_"))
}
