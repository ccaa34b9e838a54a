package policy

import (
	"math"
	"net/netip"
	"time"

	"github.com/cedar-policy/cedar-go"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// Situation is how and when a caller asks: the context of a Cedar request.
type Situation struct {
	// Origin may be nil. Its steps may be unset, when they are not known.
	Origin *authv1.Origin
	// Time is when the decision is made.
	Time time.Time
	// Arguments are those of the call, nil when they are not known.
	Arguments *Arguments
	// Seen is what the context has seen, nil when it is not known.
	Seen *Seen
}

// missing tells what of the situation is not known.
func (s Situation) missing() (n Needs) {
	if s.Arguments == nil {
		n |= NeedArguments
	}
	if s.Origin == nil || s.Origin.Steps == nil {
		n |= NeedSteps
	}
	if s.Seen == nil {
		n |= NeedSeen
	}
	if s.Seen == nil || s.Seen.Suspects == nil {
		n |= NeedSuspects
	}
	return n
}

// record makes the context, with the attributes that somebody reads.
func (s Situation) record(read attributes) cedar.Record {
	if read == 0 {
		return cedar.Record{}
	}
	o := s.Origin
	m := make(cedar.RecordMap)
	if read&readsAddress != 0 {
		// A zone is refused: an address with one belongs to a link, not to a network.
		if a, err := netip.ParseAddr(o.GetAddress()); err == nil && a.Zone() == "" {
			m["address"] = cedar.IPAddr(netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		}
	}
	if read&readsClient != 0 {
		m["client"] = cedar.String(o.GetClient())
	}
	if read&readsProtocol != 0 {
		m["protocol"] = cedar.String(o.GetProtocolVersion())
	}
	if read&readsHops != 0 {
		m["hops"] = cedar.Long(o.GetHops())
	}
	if read&readsSource != 0 {
		m["context_source"] = sourceName(o.GetContextSource())
	}
	if read&readsTime != 0 {
		m["time"] = cedar.NewDatetime(s.Time)
	}
	missing := s.missing()
	if read&readsSteps != 0 && missing&NeedSteps == 0 {
		m[steps] = long(o.GetSteps())
	}
	if read&readsArguments != 0 && missing&NeedArguments == 0 {
		m[arguments] = s.Arguments.record
	}
	s.Seen.record(read, m)
	return cedar.NewRecord(m)
}

// long makes a Cedar number. One that is too large becomes the largest, which no
// policy takes for a small one.
func long(n uint64) cedar.Long { return cedar.Long(min(n, math.MaxInt64)) }

func sourceName(s authv1.ContextSource) cedar.String {
	switch s {
	case authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT:
		return "explicit"
	case authv1.ContextSource_CONTEXT_SOURCE_TRACE:
		return "trace"
	case authv1.ContextSource_CONTEXT_SOURCE_SESSION:
		return "session"
	case authv1.ContextSource_CONTEXT_SOURCE_PRINCIPAL:
		return "principal"
	}
	return ""
}
