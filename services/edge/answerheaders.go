package edge

import (
	"net/http"
	"strconv"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// maxLimitHeaders bounds how many limits are told; more help nobody.
const maxLimitHeaders = 16

// noLength is the length of an answer that ends when it ends.
const noLength = -1

// tellFacts sets the headers that differ from answer to answer: which decision it
// is, how much of the limits is left, and its length. RateLimit-Policy and
// RateLimit are structured fields with one member for each limit. All values are
// parts of one string, and their slices of one slice: they cost two allocations
// instead of seven.
func tellFacts(h http.Header, decision string, limits []*quotav1.LimitState, length int) {
	var policyRoom [128]byte
	var room [256]byte
	policy, b := appendLimits(policyRoom[:0], room[:0], limits)
	states := len(b)
	b = append(b, policy...)
	policies := len(b)
	if length != noLength {
		b = strconv.AppendInt(b, int64(length), 10)
	}
	text := string(b)
	values := make([]string, 0, 4)
	for _, header := range [...]struct{ name, value string }{
		{"Ratelimit", text[:states]},
		{"Ratelimit-Policy", text[states:policies]},
		{"Content-Length", text[policies:]},
		{"Sallyport-Decision-Id", decision},
	} {
		if header.value != "" {
			values = append(values, header.value)
			h[header.name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
}

// appendLimits writes the limits themselves and how much of them is left.
func appendLimits(policy, state []byte, limits []*quotav1.LimitState) (policies, states []byte) {
	told := 0
	for _, l := range limits {
		// Limits on trial are nobody's business; a name that is no structured
		// string could break the header.
		if l.GetShadow() || !fieldString(l.GetName()) || told == maxLimitHeaders {
			continue
		}
		if told++; told > 1 {
			policy, state = append(policy, ", "...), append(state, ", "...)
		}
		policy = appendFieldString(policy, l.GetName())
		policy = append(policy, ";q="...)
		policy = strconv.AppendUint(policy, l.GetLimit(), 10)
		if window := l.GetWindow().AsDuration(); window > 0 {
			policy = append(policy, ";w="...)
			policy = strconv.AppendInt(policy, seconds(window), 10)
		} else {
			policy = append(policy, `;qu="concurrent-requests"`...)
		}
		state = appendFieldString(state, l.GetName())
		state = append(state, ";r="...)
		state = strconv.AppendUint(state, l.GetRemaining(), 10)
		if reset := l.GetResetAfter().AsDuration(); reset > 0 {
			state = append(state, ";t="...)
			state = strconv.AppendInt(state, seconds(reset), 10)
		}
	}
	return policy, state
}

func fieldString(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != ""
}

func appendFieldString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
