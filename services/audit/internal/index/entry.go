package index

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// Key is an event's place in time. No two events of the index have the same.
type Key struct {
	Time int64 // nanoseconds since 1970
	ID   string
}

// Entry is an event that can be indexed.
type Entry struct {
	Key
	// Sequence is that of the message in the stream that held the event.
	Sequence uint64
	// Traceparent is the span that wrote the event, if any.
	Traceparent string
	// Raw is the event as it was in the stream.
	Raw []byte

	kind, verdict, reason                              int64
	decision, principal, tenant, action, target, trace string
}

// NewEntry reads an event. The error says in a sentence why it cannot be
// indexed: it is not an event, or lacks what gives it a place. The other rules
// of the proto file are not checked here; an event that breaks them is still
// evidence.
func NewEntry(raw []byte, sequence uint64) (Entry, error) {
	var e auditv1.Event
	if err := proto.Unmarshal(raw, &e); err != nil {
		return Entry{}, errors.New("it is not an event")
	}
	kind := kindOf(&e)
	switch {
	case len(e.GetId()) != 26:
		return Entry{}, fmt.Errorf("its id has %d characters, not 26", len(e.GetId()))
	case kind == auditv1.Kind_KIND_UNSPECIFIED:
		return Entry{}, errors.New("it does not say what happened")
	case e.GetTime() == nil || !e.GetTime().IsValid():
		return Entry{}, errors.New("it has no time")
	}
	at := nanoseconds(e.GetTime())
	if at <= 0 || at == math.MaxInt64 {
		return Entry{}, errors.New("its time is not between 1970 and 2262")
	}
	reason := e.GetDecision().GetReason()
	if e.GetOutcome() != nil {
		reason = e.GetOutcome().GetReason()
	}
	return Entry{
		Key:         Key{at, e.GetId()},
		Sequence:    sequence,
		Traceparent: e.GetTraceparent(),
		Raw:         raw,
		kind:        int64(kind),
		verdict:     int64(e.GetDecision().GetVerdict()),
		reason:      int64(reason),
		decision:    e.GetDecisionId(),
		principal:   e.GetActor().GetPrincipal(),
		tenant:      e.GetActor().GetTenant(),
		action:      e.GetAction(),
		target:      e.GetTarget(),
		trace:       traceID(e.GetTraceparent()),
	}, nil
}

func kindOf(e *auditv1.Event) auditv1.Kind {
	switch e.GetWhat().(type) {
	case *auditv1.Event_Decision:
		return auditv1.Kind_KIND_DECISION
	case *auditv1.Event_Intent:
		return auditv1.Kind_KIND_INTENT
	case *auditv1.Event_Outcome:
		return auditv1.Kind_KIND_OUTCOME
	case *auditv1.Event_Admin:
		return auditv1.Kind_KIND_ADMIN
	}
	return auditv1.Kind_KIND_UNSPECIFIED
}

// traceID returns the trace id of a W3C traceparent, or nothing.
func traceID(traceparent string) string {
	const dash, length = len("00-"), 32
	if len(traceparent) < 55 {
		return ""
	}
	id := traceparent[dash : dash+length]
	if strings.Trim(id, "0123456789abcdef") != "" {
		return ""
	}
	return id
}

// nanoseconds since 1970, or the nearest that fits.
func nanoseconds(t *timestamppb.Timestamp) int64 {
	const limit = math.MaxInt64/1_000_000_000 - 1
	switch s := t.GetSeconds(); {
	case s > limit:
		return math.MaxInt64
	case s < -limit:
		return math.MinInt64
	default:
		return s*1_000_000_000 + int64(t.GetNanos())
	}
}

// args appends the values in the order of insertColumns.
func (e *Entry) args(to []any) []any {
	return append(to, e.Time, e.ID, int64(e.Sequence), e.kind, e.verdict, e.reason,
		e.decision, e.principal, e.tenant, e.action, e.target, e.trace, e.Raw)
}
