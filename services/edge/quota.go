package edge

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// checkQuota spends cost for the request, from a lease if there is one for such
// requests. The limits it met go into the headers of whatever is answered. uses is
// what is going to be reserved; which units of these a quota counts is noted.
func (x *exchange) checkQuota(cost uint32, uses ...*toolv1.Use) *refusal {
	cost = max(cost, 1)
	limits, allowed, wish := x.s.leases.draw(x, cost)
	if allowed {
		x.limits = limits
		return nil
	}
	ctx, cancel := x.peerContext()
	defer cancel()
	// Parts of one question, so that they are one allocation.
	var ask struct {
		request quotav1.CheckRequest
		subject quotav1.Subject
		cost    uint32
	}
	ask.subject.Attributes, ask.cost = x.attributes(), cost
	ask.request.Subject, ask.request.Cost, ask.request.Estimates = &ask.subject, &ask.cost, estimates(uses)
	resp, err := x.s.leases.check(ctx, x, &ask.request, wish)
	if err != nil {
		return x.peerFailed("quota", err)
	}
	x.limits, x.units = resp.GetLimits(), resp.GetUnits()
	if resp.GetAllowed() {
		return nil
	}
	return x.overQuota(resp)
}

// overQuota tells which limit has refused.
func (x *exchange) overQuota(resp *quotav1.CheckResponse) *refusal {
	kind := kindFlood
	if x.method == toolsCall {
		kind = kindResult
	}
	return &refusal{
		kind: kind, reason: quotaReason(resp.GetRefusal()), message: quotaMessage(resp),
		limit: resp.GetRule(), decision: x.decision, retryAfter: resp.GetRetryAfter().AsDuration(),
		retryable: mayPassLater(resp.GetRefusal()),
	}
}

// mayPassLater reports whether waiting alone can help.
func mayPassLater(kind quotav1.RefusalKind) bool {
	return kind != quotav1.RefusalKind_REFUSAL_KIND_STEP_BUDGET && kind != quotav1.RefusalKind_REFUSAL_KIND_LOOP
}

// attributeNames are those that quota is told of.
var attributeNames = [...]string{
	"ip", "key", "user", "owner", "tenant", "role", "tool", "action", "context", "context_source", "client", "call", "hops",
}

// attributes are what limits can match and count by.
func (x *exchange) attributes() map[string]string {
	all := make(map[string]string, len(attributeNames))
	for _, name := range attributeNames {
		if value := x.attribute(name); value != "" {
			all[name] = value
		}
	}
	return all
}

// attribute is one of the attributes; empty if there is none of this name.
func (x *exchange) attribute(name string) string {
	switch p := x.principal; name {
	case "ip":
		return x.addressText()
	case "key":
		return p.GetCredentialId()
	case "user":
		return p.GetId()
	case "owner":
		return p.GetOwner()
	case "tenant":
		return p.GetTenant()
	case "role":
		return roleList(p.GetRoles())
	case "tool":
		return x.tool()
	case "action":
		return x.method
	case "context":
		return x.context
	case "context_source":
		return contextSourceName(x.source)
	case "client":
		return x.client
	case "call":
		return x.callID()
	case "hops":
		return hopsText(x.hops)
	}
	return ""
}

// callID is the same for the same tool with the same arguments, for limits on
// repeating a call.
func (x *exchange) callID() string {
	const enough = 16 // bytes of a SHA-256
	if x.method != toolsCall || len(x.digest) < enough {
		return ""
	}
	var room [128]byte
	id := append(append(room[:0], x.tool()...), ':')
	return string(base64.RawURLEncoding.AppendEncode(id, x.digest[:enough]))
}

func hopsText(n uint32) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(n), 10)
}

// roleList joins roles as far as an attribute can hold them whole.
func roleList(roles []string) string {
	const longest = 512
	if len(roles) == 1 {
		return roles[0]
	}
	length := 0
	for i, r := range roles {
		if length += len(r) + 1; length > longest {
			roles = roles[:i]
			break
		}
	}
	return strings.Join(roles, ",")
}

func quotaReason(kind quotav1.RefusalKind) auditv1.Reason {
	switch kind {
	case quotav1.RefusalKind_REFUSAL_KIND_CONCURRENCY:
		return auditv1.Reason_REASON_CONCURRENCY_EXCEEDED
	case quotav1.RefusalKind_REFUSAL_KIND_STEP_BUDGET:
		return auditv1.Reason_REASON_STEP_BUDGET_EXCEEDED
	case quotav1.RefusalKind_REFUSAL_KIND_LOOP:
		return auditv1.Reason_REASON_LOOP_DETECTED
	default:
		return auditv1.Reason_REASON_QUOTA_EXCEEDED
	}
}

// quotaMessage says which limit was met, in words for a model.
func quotaMessage(resp *quotav1.CheckResponse) string {
	var what string
	switch resp.GetRefusal() {
	case quotav1.RefusalKind_REFUSAL_KIND_CONCURRENCY:
		what = "Too many calls are in flight at once"
	case quotav1.RefusalKind_REFUSAL_KIND_STEP_BUDGET:
		what = "This task has used up its steps"
	case quotav1.RefusalKind_REFUSAL_KIND_LOOP:
		what = "The same call was repeated too often in this task"
	case quotav1.RefusalKind_REFUSAL_KIND_QUOTA:
		what = "The quota of this period is used up"
	default:
		what = "The rate limit is used up"
	}
	for _, l := range resp.GetLimits() {
		if !l.GetExceeded() || l.GetShadow() {
			continue
		}
		what += " (" + printable(l.GetName(), 80) + ": " + strconv.FormatUint(l.GetLimit(), 10)
		if l.GetUnit() != "" {
			what += " " + printable(l.GetUnit(), 32)
		} else if window := l.GetWindow().AsDuration(); window > 0 {
			what += " per " + windowText(window)
		}
		return what + ")"
	}
	return what
}

func windowText(d time.Duration) string {
	switch {
	case d == time.Second:
		return "second"
	case d == time.Minute:
		return "minute"
	case d == time.Hour:
		return "hour"
	case d == 24*time.Hour:
		return "day"
	}
	return d.String()
}

// seconds rounds up: whoever waits that long has waited long enough.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
