package logs_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"buf.build/go/protovalidate"

	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/line"
)

// check holds what is true of every summary: it keeps to the contract's bounds,
// its numbers add up, and its text can be shown.
func check(t testing.TB, r *logsv1.SummarizeLogsResponse) {
	t.Helper()
	if err := protovalidate.Validate(r); err != nil {
		t.Errorf("the summary breaks its contract: %v", err)
	}
	text := func(what, s string) {
		t.Helper()
		if !utf8.ValidString(s) || strings.IndexFunc(s, func(r rune) bool {
			return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp)
		}) >= 0 {
			t.Errorf("%s is not fit to be shown: %q", what, s)
		}
	}
	equal := func(what string, got, want int32) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %d, want %d", what, got, want)
		}
	}
	if n := len(r.GetTimeline()); n > 60 {
		t.Errorf("got %d buckets, want 60 at most", n)
	}
	text("summary", r.GetSummary())

	var bySource, unparsed, byLevel, byTemplate, byTime, errorsByTime int32
	for _, s := range r.GetSources() {
		bySource += s.GetLines()
		unparsed += s.GetUnparsed()
	}
	for level, n := range r.GetLevels() {
		if _, ok := line.ParseLevel(level); !ok {
			t.Errorf("got level %q", level)
		}
		byLevel += n
	}
	for _, tpl := range r.GetTemplates() {
		text("template", tpl.GetTemplate())
		text("sample", tpl.GetSample())
		if tpl.GetTemplate() == "" || tpl.GetCount() < 1 || tpl.GetFirst() > tpl.GetLast() {
			t.Errorf("got template %v", tpl)
		}
		byTemplate += tpl.GetCount()
	}
	for _, b := range r.GetTimeline() {
		byTime += b.GetLines()
		errorsByTime += b.GetErrors()
	}
	for _, s := range r.GetSpikes() {
		text("template", s.GetTemplate())
		if s.GetFrom() >= s.GetTo() || float64(s.GetErrors()) <= s.GetExpected() {
			t.Errorf("got spike %v", s)
		}
	}
	equal("lines of all sources", bySource, r.GetLines())
	equal("lines of all levels", byLevel, r.GetLines())
	if len(r.GetTemplates()) < 20 {
		equal("lines of all templates", byTemplate, r.GetLines())
	}
	if unparsed == 0 {
		equal("lines over time", byTime, r.GetLines())
		equal("errors over time", errorsByTime, r.GetLevels()["error"])
	}
	if r.GetFrom() > r.GetTo() || (r.GetFrom() == "") != (len(r.GetTimeline()) == 0) {
		t.Errorf("got from %q to %q with %d buckets", r.GetFrom(), r.GetTo(), len(r.GetTimeline()))
	}
}
