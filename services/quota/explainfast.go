package quota

import (
	"fmt"
	"slices"
	"time"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/fast"
)

// explainFast adds what is to be known of a limit in fast mode, the bound first.
func (s *Service) explainFast(e *quotav1.RuleExplanation, number uint32) {
	if s.fast == nil {
		e.Notes = slices.Insert(e.Notes, 0, "In fast mode several nodes would count; this one counts alone, and the limit holds.")
		return
	}
	keys := s.fast.Keys()
	if int(number) < len(keys) {
		e.Keys = uint64(keys[number])
	}
	b := s.fast.Bound(s.now(), number)
	e.Excess, e.BytesPerKey = b.Seen, fast.Bytes(b.Nodes)
	seen := fmt.Sprintf("Each of %d nodes decides by itself and tells the others within %v.", b.Nodes, s.rules.cfg.Fast.Every)
	if b.Lag > 0 {
		seen += fmt.Sprintf(" By what was seen in the last minute, when it took up to %v until they knew, they can admit %d more than the limit.",
			b.Lag.Round(10*time.Microsecond), b.Seen)
	}
	text := []string{
		seen, fmt.Sprintf("When all are asked for all of it at the same moment, %d more: each admits the limit.", b.Worst),
	}
	silence := s.rules.cfg.Fast.Silence
	switch e.GetOnUnavailable() {
	case "deny":
		text = append(text, fmt.Sprintf("While another node is silent, for longer than %v, it refuses.", silence))
	case "share":
		text = append(text, fmt.Sprintf("While another node is silent, for longer than %v, each admits up to 1/%d of it; the window in which that begins can have %d more.", silence, b.Nodes, b.Share))
	default:
		text = append(text, fmt.Sprintf("While another node is silent, each goes on with what it knows: nodes that do not hear each other can admit %d more.", b.Worst))
	}
	if b.Silent {
		text = append(text, "A node is silent now.")
	}
	e.Notes = slices.Insert(e.Notes, 0, text...)
	e.Notes = e.Notes[:min(len(e.Notes), maxNotes)]
}
