package edge

import (
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

// parseTraceparent reads a W3C traceparent strictly: it becomes a context id and
// the parent of our spans, so what is not well-formed is not used.
func parseTraceparent(s string) (trace.SpanContext, bool) {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return trace.SpanContext{}, false
	}
	var version, flags [1]byte
	var cfg trace.SpanContextConfig
	for _, part := range []struct {
		to   []byte
		text string
	}{
		{version[:], s[:2]},
		{cfg.TraceID[:], s[3:35]},
		{cfg.SpanID[:], s[36:52]},
		{flags[:], s[53:55]},
	} {
		if !lowerHex(part.text) {
			return trace.SpanContext{}, false
		}
		if _, err := hex.Decode(part.to, []byte(part.text)); err != nil {
			return trace.SpanContext{}, false
		}
	}
	switch {
	case version[0] == 0xff:
		return trace.SpanContext{}, false
	case version[0] == 0 && (len(s) != length || flags[0] > knownFlags):
		return trace.SpanContext{}, false
	case len(s) > length && s[length] != '-':
		return trace.SpanContext{}, false // a later version may add to the end
	}
	cfg.TraceFlags = trace.TraceFlags(flags[0]) & trace.FlagsSampled
	cfg.Remote = true
	sc := trace.NewSpanContext(cfg)
	return sc, sc.IsValid()
}

// knownFlags are those that version 0 defines, sampled and random. It wants all
// others to be zero.
const knownFlags = 3

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
