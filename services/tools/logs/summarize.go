package logs

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/clean"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/line"
)

// The contract's bounds.
const (
	maxText   = 512
	maxSpikes = 20
)

// summarize reads the files twice, first to find the newest line and then to
// count, so that memory does not grow with their size.
func (s *Service) summarize(ctx context.Context, name string, w window, level line.Level) (*logsv1.SummarizeLogsResponse, error) {
	from, err := s.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer from.close()
	start := int64(math.MinInt64)
	if newest, ok := from.newest(); ok {
		start = w.start(newest)
	}
	var t tally
	truncated := from.limited
	for _, f := range from.files {
		if err := t.count(ctx, s, f, start, level); err != nil {
			return nil, err
		}
		// What was cut off does not matter if it is too old anyway.
		truncated = truncated || f.Cut && !(f.dated && f.first < start)
	}
	resp := s.report(&t)
	resp.Truncated = truncated
	for _, f := range from.files {
		resp.Sources = append(resp.Sources, &logsv1.LogSource{
			Name: f.Name, Format: f.format.String(), Lines: int32(f.lines), Unparsed: int32(f.unparsed),
		})
	}
	for l := level; l < line.Levels; l++ {
		resp.Levels[l.String()] = int32(t.levels[l])
	}
	resp.Summary = prose(resp, t.unparsed, from.skipped, level)
	return resp, nil
}

// report writes down what was counted.
func (s *Service) report(t *tally) *logsv1.SummarizeLogsResponse {
	resp := &logsv1.SummarizeLogsResponse{
		Lines:  int32(t.lines),
		Levels: make(map[string]int32),
	}
	resp.From, resp.To = t.bounds()
	texts := make([]string, len(t.kinds))
	for i, k := range t.kinds {
		texts[i] = cmp.Or(s.show(k.group.Template()), "(nothing visible)")
	}
	resp.Templates = s.templates(t.kinds, texts)
	for _, b := range t.series.Buckets() {
		resp.Timeline = append(resp.Timeline, &logsv1.TimeBucket{
			Start: stamp(b.Start), Lines: int32(b.Lines), Errors: int32(b.Errors),
		})
	}
	spikes := t.series.Spikes()
	for _, sp := range spikes[:min(len(spikes), maxSpikes)] {
		resp.Spikes = append(resp.Spikes, &logsv1.ErrorSpike{
			From: stamp(sp.From), To: stamp(sp.To),
			Errors: int32(sp.Errors), Expected: sp.Expected, Template: texts[sp.Group],
		})
	}
	return resp
}

// templates returns the kinds that are most worth showing: errors first, then
// the most frequent. Kinds that read the same, because they became so in the end
// or because what told them apart was a secret, are one.
func (s *Service) templates(kinds []*kind, texts []string) []*logsv1.LogTemplate {
	byText := make(map[string]*kind)
	var order []string
	for i, k := range kinds {
		first, ok := byText[texts[i]]
		if !ok {
			merged := *k
			byText[texts[i]] = &merged
			order = append(order, texts[i])
			continue
		}
		first.merge(k)
	}
	slices.SortFunc(order, func(a, b string) int {
		ka, kb := byText[a], byText[b]
		return cmp.Or(
			cmp.Compare(rank(ka), rank(kb)),
			cmp.Compare(kb.count, ka.count),
			cmp.Compare(a, b),
		)
	})
	var out []*logsv1.LogTemplate
	for _, text := range order[:min(len(order), s.cfg.MaxTemplates)] {
		k := byText[text]
		t := &logsv1.LogTemplate{
			Template: text,
			Count:    int32(k.count),
			Level:    k.level().String(),
			Sample:   s.show(string(k.sample)),
		}
		t.First, t.Last = k.bounds()
		out = append(out, t)
	}
	return out
}

// rank is lower for kinds that go first.
func rank(k *kind) int {
	if k.level() == line.Error {
		return 0
	}
	return 1
}

// merge adds what another kind has counted.
func (k *kind) merge(other *kind) {
	k.count += other.count
	for l, n := range other.levels {
		k.levels[l] += n
	}
	if other.dated {
		k.add(other.first)
		k.add(other.last)
	}
}

// show makes text of a log fit to leave the service.
func (s *Service) show(text string) string {
	return clean.Cut(s.masker.Mask(clean.Text([]byte(text))), maxText)
}

// bounds returns the first and last moment, empty if there is none.
func (p period) bounds() (first, last string) {
	if !p.dated {
		return "", ""
	}
	return stamp(p.first / 1e9), stamp(p.last / 1e9)
}

// stamp writes seconds of Unix time.
func stamp(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }
