// Package injection finds phrases by which texts give orders to models. It gives a
// score: telemetry and a speed bump. Whoever writes such a text with it in mind gets
// past it, and texts about prompt injection do not; what protects is what a caller may
// do, not what he may read.
package injection

import (
	"regexp"
	"regexp/syntax"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/words"
)

// reach bounds a phrase, in bytes.
const reach = 256

// maxSigns bounds how many signs there are.
const maxSigns = 128

// maxTrials is how often a word is looked at more closely, for each sign.
const maxTrials = 32

// Scores from which a text is noted.
const (
	suspect = 6
	likely  = 12
)

// Guard scores texts. It is safe for concurrent use.
type Guard struct {
	words   *words.Words // of signs, and what these need by maxSigns and their index
	phrases []*regexp.Regexp
	needy   [maxSigns]bool // signs that need something
}

// New returns a guard.
func New() *Guard {
	g := &Guard{}
	all := make(map[string][]int)
	for i, s := range signs {
		for _, w := range s.words {
			all[w] = append(all[w], i)
		}
		phrase := regexp.MustCompile(`\A(?is:` + s.phrase + `)`)
		g.phrases = append(g.phrases, phrase)
		parsed, _ := syntax.Parse(phrase.String(), syntax.Perl) // it was compiled
		for _, need := range needs(parsed) {
			g.needy[i] = true
			all[need] = append(all[need], maxSigns+i)
		}
	}
	g.words = words.New(all)
	return g
}

// hit is a word of a sign in a text.
type hit struct{ sign, start, end int }

// Find returns one finding for a text whose score is high, over its first phrase:
// "score-suspect" or "score-likely". Kinds of phrases count once.
func (g *Guard) Find(text string) []span.Found {
	var tried [maxSigns]uint8 // by sign; maxTrials once it was found
	var there [maxSigns]bool  // something that the sign needs
	var room [64]hit          // enough for most texts
	hits := room[:0]
	g.words.Each(text, func(i, start, end int) bool {
		if i >= maxSigns {
			there[i-maxSigns] = true
		} else if tried[i] < maxTrials && whole(text, start, end) {
			tried[i]++
			hits = append(hits, hit{i, start, end})
		}
		return true
	})
	tried = [maxSigns]uint8{}
	score, first := 0, span.Found{}
	last, counted := 0, 0 // where the last phrase ends, and its weight
	for _, h := range hits {
		if tried[h.sign] == maxTrials || g.needy[h.sign] && !there[h.sign] {
			continue
		}
		at := g.phrases[h.sign].FindStringIndex(text[h.end:min(len(text), h.end+reach)])
		if at == nil {
			continue
		}
		tried[h.sign] = maxTrials
		if score == 0 {
			first = span.Found{Start: h.start, End: h.end + at[1]}
		}
		if h.start >= last { // what overlaps counts once, as the heaviest
			counted = 0
		}
		weight := signs[h.sign].weight
		score += max(weight-counted, 0)
		last, counted = max(last, h.end+at[1]), max(weight, counted)
	}
	switch {
	case score >= likely:
		first.Rule = "score-likely"
	case score >= suspect:
		first.Rule = "score-suspect"
	default:
		return nil
	}
	return []span.Found{first}
}

// whole reports whether text[start:end] is no part of another word. What starts as a
// name does may stand right after one, and so may a mark in capitals with a colon:
// "USAIgnore", "USATODO:". Whoever puts an order into a text seldom has a space before it.
func whole(text string, start, end int) bool {
	if end < len(text) && letter(text[end-1]) && letter(text[end]) {
		return false
	}
	return start == 0 || !letter(text[start]) || !letter(text[start-1]) ||
		text[start] < 'a' && (text[start+1] >= 'a' || text[end-1] == ':' && text[end-2] < 'a')
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
