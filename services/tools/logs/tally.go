package logs

import (
	"bytes"
	"context"
	"fmt"

	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/line"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/series"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/template"
)

// maxSample is how much of a line is kept until the summary is written. It is
// more than is shown, since cleaning makes it shorter.
const maxSample = 2048

// tally is what has been counted.
type tally struct {
	period

	lines, unparsed int
	levels          [line.Levels]int
	miner           template.Miner
	kinds           []*kind // by ID of the miner's groups
	series          series.Series
}

// period is the time between the first and the last of some lines.
type period struct {
	dated       bool
	first, last int64
}

func (p *period) add(ns int64) {
	if !p.dated {
		*p = period{true, ns, ns}
	}
	p.first, p.last = min(p.first, ns), max(p.last, ns)
}

// kind counts the lines of a group.
type kind struct {
	period

	group  *template.Group
	count  int
	levels [line.Levels]int
	sample []byte
}

// level is the commonest level, the worse of two.
func (k *kind) level() line.Level {
	best := line.Level(0)
	for l, n := range k.levels {
		if n > 0 && n >= k.levels[best] {
			best = line.Level(l)
		}
	}
	return best
}

// count reads a file and counts its lines that are at least as new as start and
// as bad as level. An undated line is as old as the one before it; in a file
// without any times it counts, as nothing says it is old.
func (t *tally) count(ctx context.Context, s *Service, f *source, start int64, level line.Level) error {
	parser := line.NewParser(s.zone, f.Written)
	dated, at := f.dated, f.first
	err := f.Lines(ctx, s.cfg.MaxLine, func(b []byte, cut bool) {
		e := parser.Parse(b, cut)
		if e.Dated {
			at = e.Time
		}
		if dated && at < start || e.Level < level || e.Blank {
			return
		}
		f.lines++
		if !e.Dated {
			f.unparsed++
		}
		t.add(e, b, at, dated)
	})
	if err != nil {
		return fmt.Errorf("count lines: %w", err)
	}
	t.lines += f.lines
	t.unparsed += f.unparsed
	return nil
}

// add counts a line as one of the moment at, if that is known.
func (t *tally) add(e line.Entry, raw []byte, at int64, dated bool) {
	t.levels[e.Level]++
	group := t.miner.Add(e.Label, e.Message)
	if group.ID == len(t.kinds) {
		t.kinds = append(t.kinds, &kind{group: group, sample: bytes.Clone(raw[:min(len(raw), maxSample)])})
	}
	k := t.kinds[group.ID]
	k.count++
	k.levels[e.Level]++
	if !dated {
		return
	}
	k.period.add(at)
	t.period.add(at)
	seconds := at / 1e9 // no line is from before 1970
	if e.Level == line.Error {
		t.series.AddError(seconds, group.ID)
	} else {
		t.series.Add(seconds)
	}
}
