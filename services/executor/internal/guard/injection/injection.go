// Package injection finds phrases by which texts give orders to models. It gives a
// score: telemetry and a speed bump. Whoever writes such a text with it in mind gets
// past it, and texts about prompt injection do not; what protects is what a caller may
// do, not what he may read.
package injection

import (
	"regexp"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/words"
)

// sign is one kind of phrase. A phrase starts with one of its words.
type sign struct {
	words  []string
	phrase string // of an expression, after the word
	weight int
}

// signs are ours, written from descriptions of attacks and not from test sets.
var signs = []sign{
	// Orders to drop the orders there are.
	{[]string{"ignore", "disregard", "forget", "override", "bypass"}, `[^.!?\n]{0,40}\b(?:previous|prior|above|earlier|preceding|all|any|your|system|other|initial|original)\b[^.!?\n]{0,30}\b(?:instructions?|prompts?|rules|guidelines|directions|directives|constraints|policies|messages?)\b`, 3},
	// Marks of who speaks, in the notations of chat templates.
	{[]string{"<|im_start|>", "<|im_end|>", "<|system|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "[inst]", "[/inst]", "<<sys>>", "<start_of_turn>", "<end_of_turn>"}, ``, 3},
	{[]string{"</system>", "<system>", "</instructions>", "</tool_result>", "</function_results>", "<important>", "<information>", "[system]", "### system", "### instruction"}, ``, 2},
	// New orders.
	{[]string{"new instructions", "updated instructions", "real instructions", "actual instructions", "system prompt", "system override", "developer mode", "admin override"}, ``, 2},
	{[]string{"you are now", "you must now", "from now on", "act as if", "pretend to be", "pretend you are"}, ``, 1},
	{[]string{"before you can", "before using this tool", "before calling", "before answering", "after using this tool", "when this tool is called"}, `[^.!?\n]{0,80}\b(?:must|need to|have to|call|read|send|first|please)\b`, 2},
	// Orders to keep something from the user.
	{[]string{"do not", "don't", "never", "without"}, `[^.!?\n]{0,20}\b(?:tell|inform|telling|informing|mention|mentioning|reveal|alert|alerting|notify|notifying|show)\b[^.!?\n]{0,30}\b(?:user|human|anyone|him|her|them)\b`, 3},
	// Orders to send something away.
	{[]string{"send", "forward", "post", "upload", "email", "transmit", "exfiltrate", "leak"}, `[^.!?\n]{0,80}\b(?:to|at)\s{1,3}(?:https?://|[\w.+-]{1,64}@[\w-]{1,63}\.)`, 2},
	{[]string{"reveal", "print", "repeat", "output", "show me", "tell me"}, `[^.!?\n]{0,30}\b(?:system|initial|hidden|secret)\b[^.!?\n]{0,15}\b(?:prompt|instructions?|message|password|key)\b`, 2},
}

// reach bounds a phrase, in bytes.
const reach = 256

// maxTrials is how often a word is looked at more closely, for each sign.
const maxTrials = 32

// Scores from which a text is noted.
const (
	suspect = 2
	likely  = 4
)

// Guard scores texts. It is safe for concurrent use.
type Guard struct {
	words   *words.Words
	phrases []*regexp.Regexp
}

// New returns a guard.
func New() *Guard {
	g := &Guard{}
	all := make(map[string][]int)
	for i, s := range signs {
		for _, w := range s.words {
			all[w] = append(all[w], i)
		}
		g.phrases = append(g.phrases, regexp.MustCompile(`\A(?is:`+s.phrase+`)`))
	}
	g.words = words.New(all)
	return g
}

// Find returns one finding for a text whose score is high, over its first phrase:
// "score-suspect" or "score-likely". Kinds of phrases count once.
func (g *Guard) Find(text string) []span.Found {
	var tried [64]int // by sign; maxTrials once it was found
	score, first := 0, span.Found{}
	g.words.Each(text, func(i, start, end int) bool {
		if tried[i] == maxTrials || start > 0 && letter(text[start]) && letter(text[start-1]) ||
			end < len(text) && letter(text[end-1]) && letter(text[end]) {
			return true // a part of another word
		}
		tried[i]++
		at := g.phrases[i].FindStringIndex(text[end:min(len(text), end+reach)])
		if at == nil {
			return true
		}
		tried[i] = maxTrials
		if score == 0 {
			first = span.Found{Start: start, End: end + at[1]}
		}
		score += signs[i].weight
		return true
	})
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

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
