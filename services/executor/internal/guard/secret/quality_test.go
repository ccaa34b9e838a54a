package secret_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/secret"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// perRule is how many secrets are made for each rule.
const perRule = 5

type source struct {
	Rules []struct {
		ID, Regex   string
		Keywords    []string
		Entropy     float64
		SecretGroup int
		Allowlists  []struct {
			RegexTarget string
			Regexes     []string
		}
	}
}

// Samples stand between these.
const before, after = "It was in the log of yesterday: ", "\nand nobody has seen it."

// samples makes secrets of all rules that are about text, the same in each run. What a
// rule itself does not take for a secret is none: an expression can be written in ways
// that it does not match, because of what must stand around it, and secrets with little
// entropy and those on a rule's list are let be.
func samples(t testing.TB) map[string][]string {
	t.Helper()
	raw, err := os.ReadFile("gitleaks.toml")
	if err != nil {
		t.Fatal(err)
	}
	var file source
	if err := toml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	all := make(map[string][]string)
	for _, r := range file.Rules {
		if r.Regex == "" {
			continue
		}
		re, err := syntax.Parse(r.Regex, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		expression := regexp.MustCompile(r.Regex)
		var allowed []*regexp.Regexp
		for _, list := range r.Allowlists {
			for _, s := range list.Regexes {
				if list.RegexTarget == "" {
					allowed = append(allowed, regexp.MustCompile(s))
				}
			}
		}
		takes := func(s string) bool {
			at := expression.FindStringSubmatch(before + s + after)
			if at == nil {
				return false
			}
			secret := at[r.SecretGroup]
			for _, group := range at[1:] {
				if r.SecretGroup == 0 && group != "" {
					secret = group
					break
				}
			}
			return bits(secret) > r.Entropy && !slices.ContainsFunc(allowed, func(re *regexp.Regexp) bool { return re.MatchString(secret) })
		}
		for tries := 0; len(all[r.ID]) < perRule; tries++ {
			if tries == maxTries {
				t.Fatalf("%s: made %d secrets in %d tries", r.ID, len(all[r.ID]), tries)
			}
			var b strings.Builder
			write(&b, re, random)
			s := b.String()
			named := false
			for _, k := range r.Keywords {
				named = named || strings.Contains(strings.ToLower(s), strings.ToLower(k))
			}
			if !named { // the rule wants its keyword somewhere in the text
				s = r.Keywords[0] + " " + s
			}
			if takes(s) {
				all[r.ID] = append(all[r.ID], s)
			}
		}
	}
	return all
}

// maxTries is how often a secret of a rule is made until there are enough.
const maxTries = 10_000

// bits is Shannon's entropy of a text, in bits for each byte.
func bits(s string) (sum float64) {
	for c := range 256 {
		if n := strings.Count(s, string([]byte{byte(c)})); n > 0 {
			p := float64(n) / float64(len(s))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}

// write writes a text that an expression matches.
func write(b *strings.Builder, re *syntax.Regexp, random *rand.Rand) {
	times := 0
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		b.WriteRune(pick(re.Rune, random))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte(byte('a' + random.IntN(26)))
	case syntax.OpAlternate:
		write(b, re.Sub[random.IntN(len(re.Sub))], random)
	case syntax.OpConcat, syntax.OpCapture:
		for _, sub := range re.Sub {
			write(b, sub, random)
		}
	case syntax.OpQuest, syntax.OpStar:
		times = random.IntN(2)
	case syntax.OpPlus:
		times = 8
	case syntax.OpRepeat:
		if times = re.Min; re.Max > re.Min {
			times += random.IntN(min(re.Max-re.Min, 20))
		}
	}
	for range times {
		write(b, re.Sub[0], random)
	}
}

// pick picks a character of a class that people use.
func pick(pairs []rune, random *rand.Rand) rune {
	var all []rune
	for i := 0; i+1 < len(pairs); i += 2 {
		for r := max(pairs[i], ' '); r <= min(pairs[i+1], '~'); r++ {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		return pairs[0]
	}
	return all[random.IntN(len(all))]
}

var encodings = []struct {
	name   string
	encode func(string) string
	goal   float64 // of samples
}{
	{"raw", func(s string) string { return s }, 0.98},
	{"base64", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }, 0.90},
	{"base64url", func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }, 0.90},
	{"hex", func(s string) string { return hex.EncodeToString([]byte(s)) }, 0.90},
	{"percent", escapeAll, 0.90},
}

// escapeAll writes a text with percent signs where it has no letter or digit.
func escapeAll(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Secrets made from the rules are found in a text, as they are and encoded. It
// prints the figures of the README.
func TestRecall(t *testing.T) {
	t.Parallel()
	g, err := secret.New()
	if err != nil {
		t.Fatal(err)
	}
	all := samples(t)
	for _, e := range encodings {
		found, total, rules := 0, 0, 0
		for id, list := range all {
			hits := 0
			for _, s := range list {
				text := before + e.encode(s) + after
				got := g.Find("", text)
				if len(got) > 0 && !strings.Contains(span.Replace(text, got), e.encode(s)) {
					hits++
				}
			}
			if found += hits; hits == len(list) {
				rules++
			} else {
				t.Logf("%s: %s: %d of %d", e.name, id, hits, len(list))
			}
			total += len(list)
		}
		t.Logf("%-10s %4d of %d samples (%.1f %%), all of %d of %d rules", e.name, found, total, 100*float64(found)/float64(total), rules, len(all))
		if float64(found) < e.goal*float64(total) {
			t.Errorf("%s: found %d of %d, want %.0f %%", e.name, found, total, 100*e.goal)
		}
	}
}
