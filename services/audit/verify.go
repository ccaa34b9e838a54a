package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/index"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/stream"
)

const (
	maxFindings      = 100
	progressInterval = time.Second
)

// errVerified ends the reading of the stream.
var errVerified = errors.New("everything was read")

// Verify implements [auditv1.AuditServiceServer].
//
// That the stream does not begin with its first message is a finding: nothing is
// ever removed from the audit stream by this system, for no age and no size.
func (s *Service) Verify(_ *auditv1.VerifyRequest, out grpc.ServerStreamingServer[auditv1.VerifyResponse]) error {
	ctx := out.Context()
	x, err := s.open()
	if err != nil {
		return err
	}
	// The head first: what is indexed at that moment must be in the stream, and
	// what is in the stream by then must be indexed.
	head, err := x.Head(ctx)
	if err != nil {
		return unavailable(err)
	}
	state, err := s.stream.State(ctx)
	if err != nil {
		return unreadable(err)
	}
	v := &verifier{
		index: x, indexed: head.Sequence, state: state, next: 1,
		chains: chains{cut: state.First > 1, last: make(map[string]link)},
		report: func(r *auditv1.VerifyResponse) error { return out.Send(r) },
	}
	for attempted := uint64(0); state.Messages > 0; attempted = v.next {
		err := s.stream.Read(ctx, v.next, func(m stream.Message) error { return v.message(ctx, m) })
		if errors.Is(err, errVerified) {
			break
		}
		if v.failed != nil {
			return v.failed
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if attempted == v.next { // not even one message since the last time
			return unreadable(err)
		}
	}
	if err := v.end(ctx); err != nil {
		return err
	}
	return v.send(true)
}

// verifier compares the stream, message after message, with itself and with the
// index, both in the order in which the messages came.
type verifier struct {
	index   *index.Index
	indexed uint64 // the index has all messages up to this one
	state   stream.State
	chains  chains
	report  func(*auditv1.VerifyResponse) error
	failed  error // why verifying cannot go on

	next            uint64 // sequence of the message that must come next
	batches, events uint64
	findings        []*auditv1.Finding
	total           uint64
	reported        time.Time

	rows     []index.Row // of the index, not yet compared
	position int64       // of the last row that was read
}

// message takes the next message of the stream.
func (v *verifier) message(ctx context.Context, m stream.Message) error {
	if m.Sequence > v.next {
		v.found(0, "", missing("message", v.next, m.Sequence-1))
	}
	v.next = m.Sequence + 1
	if v.failed = v.content(ctx, m); v.failed != nil {
		return v.failed
	}
	// Nothing pending, although the stream was longer: the rest is missing.
	if m.Sequence >= v.state.Last || m.Pending == 0 {
		return errVerified
	}
	if time.Since(v.reported) >= progressInterval {
		v.failed = v.send(false)
	}
	return v.failed
}

func (v *verifier) content(ctx context.Context, m stream.Message) error {
	b, err := openBatch(m.Data)
	if err != nil {
		v.found(m.Sequence, "", err.Error())
		return v.compare(ctx, m.Sequence, "", nil)
	}
	v.batches++
	problem, absent, again := v.chains.add(b, m.Data)
	switch {
	case absent:
		v.found(0, b.producer, problem)
	case problem != "":
		v.found(m.Sequence, b.producer, problem)
	}
	var entries []index.Entry
	for i, raw := range b.events {
		e, err := index.NewEntry(raw, m.Sequence)
		if err != nil {
			v.found(m.Sequence, b.producer, fmt.Sprintf("event %d is malformed: %v", i+1, err))
			continue
		}
		entries = append(entries, e)
	}
	if !again {
		v.events += uint64(len(b.events))
	}
	return v.compare(ctx, m.Sequence, b.producer, entries)
}

// compare looks up the events of a message in the index.
func (v *verifier) compare(ctx context.Context, sequence uint64, producer string, entries []index.Entry) error {
	if sequence > v.indexed {
		return nil
	}
	rows, err := v.rowsOf(ctx, sequence)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var raw []byte
		if i := slices.IndexFunc(rows, func(r index.Row) bool { return r.Key == e.Key }); i >= 0 {
			raw = rows[i].Raw
			rows = slices.Delete(rows, i, i+1)
		} else if raw, err = v.index.Event(ctx, e.Key); err != nil { // came in an earlier message too
			return unavailable(err)
		}
		switch {
		case raw == nil:
			v.found(0, producer, fmt.Sprintf("event %q of message %d is missing from the index", e.ID, sequence))
		case !bytes.Equal(raw, e.Raw):
			v.found(sequence, producer, fmt.Sprintf("event %q is another one in the index", e.ID))
		}
	}
	v.surplus(rows)
	return nil
}

// rowsOf returns the rows of the index that came with a message. What it passes
// on the way there came with messages that the stream does not have.
func (v *verifier) rowsOf(ctx context.Context, sequence uint64) (of []index.Row, err error) {
	for {
		if len(v.rows) == 0 {
			var more bool
			if v.rows, v.position, more, err = v.index.Since(ctx, nil, v.position, chunk); err != nil {
				return nil, unavailable(err)
			}
			if len(v.rows) == 0 && !more {
				return of, nil
			}
		}
		row := v.rows[0]
		if row.Sequence > sequence {
			return of, nil
		}
		if row.Sequence == sequence {
			of = append(of, row)
		} else {
			v.surplus([]index.Row{row})
		}
		v.rows = v.rows[1:]
	}
}

// surplus reports rows that the stream does not account for. Where the message
// itself is gone from the beginning of the stream that was reported already.
func (v *verifier) surplus(rows []index.Row) {
	for _, r := range rows {
		if r.Sequence >= v.state.First {
			v.found(0, "", fmt.Sprintf("the index has an event %q of message %d that the stream does not have", r.ID, r.Sequence))
		}
	}
}

// end looks at what should have come after the last message.
func (v *verifier) end(ctx context.Context) error {
	if v.next <= v.state.Last {
		v.found(0, "", missing("message", v.next, v.state.Last))
	}
	if v.indexed >= v.next {
		rows, err := v.rowsOf(ctx, v.indexed)
		if err != nil {
			return err
		}
		v.surplus(rows)
	}
	return nil
}

func (v *verifier) found(sequence uint64, producer, problem string) {
	v.total++
	if len(v.findings) < maxFindings {
		v.findings = append(v.findings, &auditv1.Finding{StreamSequence: sequence, Producer: producer, Problem: problem})
	}
}

func (v *verifier) send(done bool) error {
	v.reported = time.Now()
	return v.report(&auditv1.VerifyResponse{
		Done: done, Batches: v.batches, Events: v.events, Producers: uint64(len(v.chains.last)),
		Findings: slices.Clone(v.findings), FindingsTotal: v.total,
	})
}

// unreadable is the answer when the stream cannot be read.
func unreadable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fault.New(codes.Unavailable, auditv1.ErrorReason_ERROR_REASON_STREAM_UNAVAILABLE,
		"the audit stream cannot be read just now").Because(err)
}
