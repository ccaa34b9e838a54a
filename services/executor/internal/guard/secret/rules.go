package secret

import (
	_ "embed"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"

	"github.com/BurntSushi/toml"
)

//go:embed gitleaks.toml
var source string

// rule is one of gitleaks' rules.
type rule struct {
	id       string
	entropy  float64
	group    int // that is the secret; 0 for the first that has matched
	keywords []string
	allowed  []*allowlist

	// anchored says that every match starts with a keyword, boundary that there must
	// be no letter before it.
	anchored, boundary bool
	// reach is how far from a keyword a match can go, in bytes.
	reach int
	// costly says that a trial can go over all of that, word that no match goes beyond a
	// space or a quote.
	costly, word bool

	compiled func() *regexp.Regexp
}

// harmless are names in results of APIs whose values have to come back as they are:
// places in lists, and keys of things that are no secrets. Gitleaks looks at code, where
// they have no values.
const harmless = `(?i)(?:next|prev|previous|page|pagination|continuation|continue|cursor|sync|resume|delta|change|progress|upload|lock|etag)[_.-]?(?:page)?[_.-]?token` +
	`|(?:idempotency|cache|partition|sort|range|object|row|shard|group|message|routing|translation|dedup|deduplication|issue|project|parent|space|file|blob|s3|map|hash|etcd|label|tag)[_.-]?key` +
	`|^['"\x60]?key['"\x60\s]{0,3}[:=]`

// maxReach is so much of a text as a rule is tried on, from a keyword on. Of what is
// longer the beginning is enough to tell.
const maxReach = 512

// long are rules for which it is not, or which are slow.
var long = map[string]struct {
	reach int
	word  bool
}{
	"jwt": {8 << 10, true}, "jwt-base64": {8 << 10, true}, "private-key": {8 << 10, false},
	"curl-auth-header": {maxReach, false}, "curl-auth-user": {maxReach, false},
}

// find returns the first match with its groups, as offsets; nil if there is none.
func (r *rule) find(text string) []int { return r.compiled().FindStringSubmatchIndex(text) }

// allowlist says what is no secret although it looks like one.
type allowlist struct {
	target    string // "", "match" or "line": what the expressions are for
	all       bool   // both an expression and a word are needed
	regexes   func() []*regexp.Regexp
	stopwords []string
}

// allows reports whether a list lets a secret be, which stands at an offset of the
// text.
func (a *allowlist) allows(secret, match, text string, at int) bool {
	subject := secret
	switch a.target {
	case "match":
		subject = match
	case "line":
		from := strings.LastIndexByte(text[:at], '\n') + 1
		to := at + strings.IndexByte(text[at:]+"\n", '\n')
		subject = text[max(from, at-maxLine):min(to, at+maxLine)]
	}
	regexes := a.regexes()
	expression := slices.ContainsFunc(regexes, func(re *regexp.Regexp) bool { return re.MatchString(subject) })
	low := strings.ToLower(secret)
	word := slices.ContainsFunc(a.stopwords, func(w string) bool { return strings.Contains(low, w) })
	if a.all {
		return (expression || len(regexes) == 0) && (word || len(a.stopwords) == 0)
	}
	return expression || word
}

// maxLine bounds what is looked at of a line on each side of a secret.
const maxLine = 1 << 10

// The file, as far as it is used.
type tomlFile struct {
	Allowlist tomlAllowlist
	Rules     []struct {
		ID          string
		Regex       string
		Entropy     float64
		SecretGroup int
		Keywords    []string
		Allowlists  []tomlAllowlist
	}
}

type tomlAllowlist struct {
	Condition   string
	RegexTarget string
	Paths       []string
	Regexes     []string
	Stopwords   []string
}

// unneeded are the beginnings of expressions that take in what is before a keyword,
// which is not part of the secret. Without them a match starts with the keyword.
// The end of a text is where a line ends: gitleaks looks at files in pieces.
var unneeded = strings.NewReplacer(`(?i)[\w.-]{0,50}?`, `(?i)`, `[\w.-]{0,50}?(?i:[\w.-]{0,50}?`, `(?i:`, `|$)`, `|(?m:$))`)

// read returns the rules that are about text, and what is allowed by all.
func read() ([]*rule, []*allowlist, error) {
	var file tomlFile
	if _, err := toml.Decode(source, &file); err != nil {
		return nil, nil, err
	}
	var rules []*rule
	for _, f := range file.Rules {
		if f.Regex == "" { // about a file's name
			continue
		}
		expression := unneeded.Replace(f.Regex)
		re, err := syntax.Parse(expression, syntax.Perl)
		if err != nil {
			return nil, nil, fmt.Errorf("rule %s: %w", f.ID, err)
		}
		r := &rule{id: f.ID, entropy: f.Entropy, group: f.SecretGroup}
		for _, k := range f.Keywords {
			r.keywords = append(r.keywords, strings.ToLower(k))
		}
		if len(r.keywords) == 0 {
			return nil, nil, fmt.Errorf("rule %s: no keyword", f.ID)
		}
		for _, a := range f.Allowlists {
			if list := newAllowlist(a); list != nil {
				r.allowed = append(r.allowed, list)
			}
		}
		if r.id == generic {
			r.allowed = append(r.allowed, newAllowlist(tomlAllowlist{RegexTarget: "match", Regexes: []string{harmless}}))
		}
		r.reach = min(longest(re)+1, maxReach) // and what must follow
		if l, ok := long[f.ID]; ok {
			r.reach, r.word, r.costly = l.reach, l.word, true
		}
		r.anchored, r.boundary = startsWith(re, r.keywords), strings.HasPrefix(strings.TrimPrefix(f.Regex, "(?i)"), `\b`)
		if r.anchored {
			expression = `\A(?:` + expression + `)`
		}
		r.compiled = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) }) // it was parsed
		rules = append(rules, r)
	}
	return rules, []*allowlist{newAllowlist(file.Allowlist)}, nil
}

// newAllowlist returns nil for a list that is about files.
func newAllowlist(f tomlAllowlist) *allowlist {
	all := strings.EqualFold(f.Condition, "AND")
	if len(f.Regexes)+len(f.Stopwords) == 0 || all && len(f.Paths) > 0 {
		return nil
	}
	a := &allowlist{target: f.RegexTarget, all: all}
	for _, w := range f.Stopwords {
		a.stopwords = append(a.stopwords, strings.ToLower(w))
	}
	a.regexes = sync.OnceValue(func() []*regexp.Regexp {
		var compiled []*regexp.Regexp
		for _, s := range f.Regexes {
			compiled = append(compiled, regexp.MustCompile(s))
		}
		return compiled
	})
	return a
}
