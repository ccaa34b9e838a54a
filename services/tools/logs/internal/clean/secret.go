package clean

import (
	"regexp"
	"strings"
)

// masked stands for a secret.
const masked = "[masked]"

// Masker replaces secrets in text. It knows the usual forms, and that what is
// called a password is one. It is a safety net, not a promise: a secret that
// looks like any other word passes.
type Masker struct {
	rules []rule
}

type rule struct {
	// hints are in lower case. All that the pattern matches has one of them;
	// most lines have none and are spared the pattern.
	hints   []string
	pattern *regexp.Regexp
	replace string
}

// NewMasker returns a masker. It is safe for concurrent use.
func NewMasker() *Masker {
	const quotedOrWord = `("(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s"&]+)`
	must := regexp.MustCompile
	return &Masker{[]rule{
		{[]string{"-----begin"}, must(`(?i)-----BEGIN [A-Z ]*PRIVATE KEY.*`), masked},
		{[]string{"cookie", "authorization"}, must(`(?i)\b((?:set-)?cookie|(?:proxy-)?authorization)("?\s*[:=]\s*"?)[^"\r\n]+`), "$1$2" + masked},
		{[]string{"bearer"}, must(`(?i)\b(bearer)[\s:=]+[A-Za-z0-9._~+/=-]+`), "$1 " + masked},
		{[]string{"basic"}, must(`(?i)\b(basic)\s+[A-Za-z0-9+/=_-]{8,}`), "$1 " + masked},
		{[]string{"sp_"}, must(`\bsp_[A-Za-z0-9]+_[A-Za-z0-9_]+`), masked},
		{[]string{"akia", "asia"}, must(`\b(?:AKIA|ASIA)[0-9A-Z]{12,}`), masked},
		{[]string{"eyj"}, must(`\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*`), masked},
		{[]string{"gh", "github_pat_"}, must(`\b(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{10,}`), masked},
		{[]string{"xox"}, must(`\bxox[a-z]-[A-Za-z0-9-]{8,}`), masked},
		{[]string{"sk-", "sk_", "pk_", "rk_"}, must(`\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}`), masked},
		{[]string{"://"}, must(`(://[^\s/:@]*:)[^\s/@]+@`), "$1" + masked + "@"},
		{
			[]string{"pass", "pwd", "secret", "token", "key", "credential", "session", "auth", "access", "private"},
			must(`(?i)((?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|(?:access|private|secret|auth|session)[_-]?(?:key|token|id)|credentials?)\\?["']?\s*[:=]\s*)\\?` + quotedOrWord),
			"$1" + masked,
		},
	}}
}

// Mask returns s with secrets replaced.
func (m *Masker) Mask(s string) string {
	lower := strings.ToLower(s)
	for _, r := range m.rules {
		for _, hint := range r.hints {
			if strings.Contains(lower, hint) {
				s = r.pattern.ReplaceAllString(s, r.replace)
				break
			}
		}
	}
	return s
}
