package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// Bounds of what a client may say of itself and its context; the contracts of
// the peers have the same.
const (
	maxContext     = 128
	maxContextSent = 256
	maxClient      = 256
	maxHops        = 1000
)

// findContext finds what step budgets count by: what the client says, the trace
// it is in, its legacy session, or else just who it is. None of these is proof
// of anything; counts are always kept apart by principal too.
func (x *exchange) findContext() *refusal {
	m := &x.msg
	if m.MetaHops.Present() {
		n, ok := m.Integer(m.MetaHops)
		if !ok || n < 0 || n > maxHops {
			return refuse(kindParams, "_meta[dev.sallyport/hops] has to be an integer from 0 to 1000")
		}
		x.hops = uint32(n)
	}
	if m.MetaContext.Present() {
		id := m.Text(m.MetaContext)
		if !contextID(id) {
			return refuse(kindParams, "_meta[dev.sallyport/context] has to be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
		}
		x.context, x.source = id, authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT
		return nil
	}
	if m.MetaTraceparent.Present() {
		if parent, ok := parseTraceparent(m.Text(m.MetaTraceparent)); ok {
			x.context, x.source = parent.TraceID().String(), authv1.ContextSource_CONTEXT_SOURCE_TRACE
			return nil
		}
	}
	if x.session != nil {
		x.context, x.source = x.session.ID, authv1.ContextSource_CONTEXT_SOURCE_SESSION
		return nil
	}
	name, _, _ := strings.Cut(x.client, "/")
	x.context, x.source = bounded(x.principal.GetId()+"/"+name), authv1.ContextSource_CONTEXT_SOURCE_PRINCIPAL
	return nil
}

// idempotencyKey is the client's name for its call, if it gives one.
func (x *exchange) idempotencyKey() (string, *refusal) {
	if !x.msg.MetaIdempotencyKey.Present() {
		return "", nil
	}
	key := x.msg.Text(x.msg.MetaIdempotencyKey)
	if !contextID(key) {
		return "", refuse(kindParams, "_meta[dev.sallyport/idempotency-key] has to be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
	}
	return key, nil
}

// checkHops ends a call that agents and tools pass on to each other in a circle.
func (x *exchange) checkHops() *refusal {
	if most := x.s.cfg.MaxHops; int(x.hops) > most {
		return &refusal{
			kind: kindResult, reason: auditv1.Reason_REASON_LOOP_DETECTED, decision: x.decision,
			message: fmt.Sprintf("This call has come through %d agents and tools, and %d are the most; they seem to call each other in a circle", x.hops, most),
		}
	}
	return nil
}

// bounded keeps a context id within its bound without making two ids one.
func bounded(id string) string {
	if len(id) <= maxContextSent {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func contextID(id string) bool {
	for i := range len(id) {
		c := id[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '.' && c != '_' && c != ':' && c != '-' {
			return false
		}
	}
	return id != "" && len(id) <= maxContext
}

// contextSourceName is the source as quota rules name it.
func contextSourceName(s authv1.ContextSource) string {
	switch s {
	case authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT:
		return "explicit"
	case authv1.ContextSource_CONTEXT_SOURCE_TRACE:
		return "trace"
	case authv1.ContextSource_CONTEXT_SOURCE_SESSION:
		return "session"
	default:
		return "principal"
	}
}

// clientText is what the client calls itself, "name/version", made harmless for
// logs and records. It is not to be believed.
func clientText(m *jsonrpc.Message) string {
	var room [64]byte
	b := m.AppendText(room[:0], m.ClientName)
	if len(b) == 0 {
		return ""
	}
	return printable(string(m.AppendText(append(b, '/'), m.ClientVersion)), maxClient)
}

// printable replaces what does not print and cuts text to a number of bytes.
func printable(text string, limit int) string {
	ok := len(text) <= limit
	for i := 0; ok && i < len(text); i++ {
		ok = text[i] >= 0x20 && text[i] < 0x7f
	}
	if ok {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = '_'
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
