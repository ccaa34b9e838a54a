// Package remote asks a guard that is another service (sallyport.guard.v1) what it
// takes texts for. Of its answers nothing is used that breaks a rule: the service is
// one of ours by its certificate, and may be wrong, slow or away all the same.
package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	guardv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/guard/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/isolate"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
)

// Config says where the guard is and what it may cost.
type Config struct {
	// Address is a gRPC target; what is there must prove to be "guard". Empty means
	// that there is none.
	Address string `yaml:"address"`
	// Deadline is how long a check may take, the wait for others to end among it.
	Deadline time.Duration `yaml:"deadline"`
	// MaxTextBytes bounds the texts of one check together. What is beyond is not
	// sent, which counts as a failure.
	MaxTextBytes int `yaml:"max_text_bytes"`
	// Isolation says how many checks there may be at a time, and when the guard is
	// left alone; its settings stand in this section itself.
	Isolation isolate.Config `yaml:",inline"`
}

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config {
	return Config{
		Deadline: 150 * time.Millisecond, MaxTextBytes: 256 << 10,
		Isolation: isolate.Config{
			MaxInFlight: 32, QueueWait: 50 * time.Millisecond,
			Breaker: isolate.Breaker{FailureRate: 0.5, MinCalls: 20, Window: 10 * time.Second, Rest: 5 * time.Second},
		},
	}
}

// Validate reports every mistake at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Deadline < time.Millisecond || c.Deadline > 10*time.Second {
		errs = append(errs, fmt.Errorf("deadline: %v must be 1ms to 10s", c.Deadline))
	}
	if c.MaxTextBytes < 1024 || c.MaxTextBytes > 1<<20 {
		errs = append(errs, fmt.Errorf("max_text_bytes: %d must be 1024 to %d", c.MaxTextBytes, 1<<20))
	}
	return errors.Join(append(errs, c.Isolation.Validate())...)
}

// Bounds of the contract.
const (
	maxParts  = 16384
	maxPart   = 64 << 10 // bytes
	maxName   = 256      // bytes
	maxAnswer = 64 << 10 // bytes
)

// Text is a text with the name of the JSON member whose value it is, or none.
type Text struct{ Name, Text string }

// Verdict is what the guard has said.
type Verdict struct {
	Kind  guardv1.Verdict
	Score float64
	// Found holds for each text what was found in it.
	Found [][]span.Found
	// Unsent says that not all of the texts were sent.
	Unsent bool
}

// Failure is why there is no verdict, for the record. The empty one is none.
type Failure string

// Failures.
const (
	Timeout     Failure = "failed:timeout"     // no answer within the deadline
	Unavailable Failure = "failed:unavailable" // it cannot be reached, or has answered with an error
	Invalid     Failure = "failed:invalid"     // its answer breaks a rule
	Busy        Failure = "failed:busy"        // too many checks are in flight
	Resting     Failure = "failed:resting"     // it has failed too often of late
	Cancelled   Failure = "failed:cancelled"   // the caller went away
	Unsent      Failure = "failed:unsent"      // there was more text than may be sent
)

// Guard is a guard elsewhere. It is safe for concurrent use.
type Guard struct {
	cfg    Config
	client guardv1.GuardServiceClient
	check  *rules.Checker
	cell   *isolate.Cell
}

// New returns a guard behind a connection. changed is told when it is left alone
// (true), and when it is well again (false).
func New(cfg Config, conn grpc.ClientConnInterface, changed func(resting bool)) (*Guard, error) {
	check, err := rules.NewChecker((&guardv1.CheckResponse{}).ProtoReflect().Descriptor())
	if err != nil {
		return nil, err
	}
	return &Guard{cfg: cfg, client: guardv1.NewGuardServiceClient(conn), check: check, cell: isolate.NewCell(cfg.Isolation, changed)}, nil
}

// piece says which text a part is of, and from which byte on.
type piece struct{ text, start int }

// Check asks for a verdict. texts must not be empty.
func (g *Guard) Check(ctx context.Context, tool string, side guardv1.Side, texts []Text) (Verdict, Failure) {
	parts, pieces, unsent := g.parts(texts)
	asking, cancel := context.WithTimeout(ctx, g.cfg.Deadline)
	defer cancel()
	seat, err := g.cell.Enter(asking)
	switch {
	case ctx.Err() != nil:
		return Verdict{}, Cancelled
	case errors.Is(err, isolate.ErrResting):
		return Verdict{}, Resting
	case err != nil:
		return Verdict{}, Busy
	}
	defer seat.Leave()
	answer, err := g.client.Check(asking, &guardv1.CheckRequest{Tool: tool, Side: side, Parts: parts}, grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		if ctx.Err() != nil { // which says nothing of the guard
			return Verdict{}, Cancelled
		}
		seat.Told(false)
		return Verdict{}, failure(asking, err)
	}
	v, err := g.judge(answer, parts, pieces, len(texts))
	seat.Told(err == nil)
	if err != nil {
		return Verdict{}, Invalid
	}
	v.Unsent = unsent
	return v, ""
}

// failure tells what an error of a check means.
func failure(asking context.Context, err error) Failure {
	code := status.Code(err)
	if f, ok := errors.AsType[*fault.Error](err); ok {
		code = f.Code
	}
	switch {
	case code == codes.DeadlineExceeded, asking.Err() != nil:
		return Timeout
	case code == codes.ResourceExhausted: // as a rule an answer that is too large
		return Invalid
	}
	return Unavailable
}

// parts cuts texts into parts that may be sent, and reports whether something was
// left out.
func (g *Guard) parts(texts []Text) (parts []*guardv1.Part, pieces []piece, unsent bool) {
	left := g.cfg.MaxTextBytes
	for i, t := range texts {
		name := t.Name[:cut(t.Name, maxName)]
		for start := 0; start < len(t.Text); {
			size := cut(t.Text[start:], min(maxPart, left-len(name)))
			if size == 0 || len(parts) == maxParts {
				return parts, pieces, true
			}
			parts = append(parts, &guardv1.Part{Name: name, Text: t.Text[start : start+size], Continues: start > 0})
			pieces = append(pieces, piece{i, start})
			start, left = start+size, left-len(name)-size
		}
	}
	return parts, pieces, false
}

// cut returns how many bytes of a text are whole characters within n bytes.
func cut(s string, n int) int {
	if len(s) <= n {
		return len(s)
	}
	n = max(n, 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}

// judge makes a verdict of an answer. It fails closed: an answer of which one
// thing is wrong is not used.
func (g *Guard) judge(answer *guardv1.CheckResponse, parts []*guardv1.Part, pieces []piece, texts int) (Verdict, error) {
	wrong, err := g.check.Check(answer)
	if err != nil {
		return Verdict{}, err
	}
	if len(wrong) > 0 {
		return Verdict{}, fmt.Errorf("%s %s", wrong[0].GetPointer(), wrong[0].GetMessage())
	}
	v := Verdict{Kind: answer.GetVerdict(), Score: answer.GetScore(), Found: make([][]span.Found, texts)}
	for _, f := range answer.GetFindings() {
		if int(f.GetPart()) >= len(parts) {
			return Verdict{}, fmt.Errorf("part %d: there are %d", f.GetPart(), len(parts))
		}
		text, at := parts[f.GetPart()].GetText(), pieces[f.GetPart()]
		start, end := int(f.GetStart()), int(f.GetEnd())
		if end == 0 {
			end = len(text)
		}
		if end > len(text) || !utf8.RuneStart(text[start]) || end < len(text) && !utf8.RuneStart(text[end]) {
			return Verdict{}, fmt.Errorf("%d to %d is no part of a text of %d bytes", start, end, len(text))
		}
		v.Found[at.text] = append(v.Found[at.text], span.Found{Start: at.start + start, End: at.start + end, Rule: f.GetRule()})
	}
	for i, found := range v.Found {
		v.Found[i] = merge(found)
	}
	return v, nil
}

// merge sorts what was found in a text, and makes one of what overlaps.
func merge(found []span.Found) []span.Found {
	slices.SortStableFunc(found, func(a, b span.Found) int { return a.Start - b.Start })
	kept := found[:0]
	for _, f := range found {
		f.Instead = "[removed: " + f.Rule + "]"
		if last := len(kept) - 1; last >= 0 && f.Start < kept[last].End {
			kept[last].End = max(kept[last].End, f.End)
			continue
		}
		kept = append(kept, f)
	}
	return kept
}
