package logs

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/clean"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/folder"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/line"
)

// maxQuote is how much of a template is quoted in a sentence.
const maxQuote = 160

// prose tells a summary in a paragraph.
func prose(r *logsv1.SummarizeLogsResponse, unparsed int, skipped []folder.Skipped, level line.Level) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	switch {
	case len(r.GetSources()) == 0:
		say("There are no log files to read.")
	case r.GetLines() == 0:
		say("No lines in %s match.", plural(len(r.GetSources()), "file"))
	default:
		say("%s in %s", plural(int(r.GetLines()), "line"), plural(len(r.GetSources()), "file"))
		if r.GetFrom() != "" {
			say(" from %s to %s", r.GetFrom(), r.GetTo())
		}
		say(": %s.", counts(r.GetLevels(), level))
	}
	if level > line.Debug {
		say(" Lines below level %s are left out.", level)
	}
	if t := r.GetTemplates(); len(t) > 0 && t[0].GetLevel() == line.Error.String() {
		say(" The commonest error, %s: %s.", times(int(t[0].GetCount())), quote(t[0].GetTemplate()))
	}
	tellSpikes(say, r.GetSpikes())
	if unparsed > 0 {
		say(" %s had no time or could not be understood.", plural(unparsed, "line"))
	}
	if r.GetTruncated() {
		say(" A limit was hit, so older lines are left out.")
	}
	tellSkipped(say, skipped)
	return b.String()
}

// counts lists the levels that can occur, the worst first.
func counts(levels map[string]int32, least line.Level) string {
	var parts []string
	for _, l := range []struct {
		level line.Level
		noun  string
	}{{line.Error, "error"}, {line.Warn, "warning"}, {line.Info, "info line"}, {line.Debug, "debug line"}} {
		if l.level >= least {
			parts = append(parts, plural(int(levels[l.level.String()]), l.noun))
		}
	}
	return strings.Join(parts, ", ")
}

func tellSpikes(say func(string, ...any), spikes []*logsv1.ErrorSpike) {
	if len(spikes) == 0 {
		return
	}
	worst := spikes[0]
	usual := "none"
	if n := int(math.Round(worst.GetExpected())); n > 0 {
		usual = "about " + grouped(n)
	}
	say(" Errors peaked from %s to %s: %s where %s would be usual, mostly %s.",
		worst.GetFrom(), worst.GetTo(), grouped(int(worst.GetErrors())), usual, quote(worst.GetTemplate()))
	if n := len(spikes) - 1; n > 0 {
		say(" Lesser peaks: %s.", grouped(n))
	}
}

func tellSkipped(say func(string, ...any), skipped []folder.Skipped) {
	const most = 5
	if len(skipped) == 0 {
		return
	}
	var parts []string
	for _, sk := range skipped[:min(len(skipped), most)] {
		parts = append(parts, fmt.Sprintf("%s (%s)", quote(clean.Text([]byte(sk.Name))), sk.Reason))
	}
	if n := len(skipped) - most; n > 0 {
		parts = append(parts, fmt.Sprintf("%s more", grouped(n)))
	}
	say(" Not read: %s.", strings.Join(parts, ", "))
}

// quote puts text of strangers between marks that it cannot close itself.
func quote(text string) string {
	text = strings.NewReplacer("“", "'", "”", "'", "\"", "'").Replace(text)
	return "“" + clean.Cut(text, maxQuote) + "”"
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return grouped(n) + " times"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return grouped(n) + " " + noun + "s"
}

// grouped writes a number with commas between its thousands.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
