package policy

import (
	"net/netip"
	"time"

	"github.com/cedar-policy/cedar-go"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// Situation is how and when a caller asks: the context of a Cedar request.
type Situation struct {
	// Origin may be nil.
	Origin *authv1.Origin
	// Time is when the decision is made.
	Time time.Time
	// Arguments are those of the call, nil when they are not known.
	Arguments *Arguments
}

func (s Situation) record() cedar.Record {
	m := cedar.RecordMap{
		"client":         cedar.String(s.Origin.GetClient()),
		"protocol":       cedar.String(s.Origin.GetProtocolVersion()),
		"hops":           cedar.Long(s.Origin.GetHops()),
		"context_source": sourceName(s.Origin.GetContextSource()),
		"time":           cedar.NewDatetime(s.Time),
	}
	// A zone is refused: an address with one belongs to a link, not to a network.
	if a, err := netip.ParseAddr(s.Origin.GetAddress()); err == nil && a.Zone() == "" {
		m["address"] = cedar.IPAddr(netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
	}
	if s.Arguments != nil {
		m["arguments"] = s.Arguments.record
	}
	return cedar.NewRecord(m)
}

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
