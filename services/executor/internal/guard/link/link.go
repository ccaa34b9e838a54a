// Package link finds links and images in markdown and HTML that carry data to
// hosts which are not on a list. An image is fetched when it is shown, and a link when
// it is followed: who can make a model write one can have what the model knows.
package link

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

// Guard finds such links. It is safe for concurrent use.
type Guard struct {
	hosts   map[string]bool
	domains []string // ".example.com" for all below
}

var hostName = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckHost returns an error unless a host can be on the list.
func CheckHost(h string) error {
	if len(h) > 253 {
		return errors.New("longer than a host's name can be")
	}
	if !hostName.MatchString(h) {
		return fmt.Errorf(`%q must be a host's name in lower case, such as "docs.example.com", or "*.example.com" for all below`, h)
	}
	return nil
}

// New takes the hosts to which data may go, as [CheckHost] wants them.
func New(hosts []string) *Guard {
	g := &Guard{hosts: make(map[string]bool)}
	for _, h := range hosts {
		if below, ok := strings.CutPrefix(h, "*"); ok {
			g.domains = append(g.domains, below)
		} else {
			g.hosts[h] = true
		}
	}
	return g
}

func (g *Guard) allowed(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, below := range g.domains {
		if strings.HasSuffix(host, below) {
			return true
		}
	}
	return g.hosts[host]
}

// Find returns the targets of links and images that carry data, each to be replaced
// by its host in a form that is no link.
func (g *Guard) Find(text string) []span.Found {
	var found []span.Found
	targets(text, func(t target) {
		if rule, instead := g.judge(text[t.start:t.end], t.image); rule != "" {
			found = append(found, span.Found{Start: t.start, End: t.end, Rule: rule, Instead: instead})
		}
	})
	slices.SortFunc(found, func(a, b span.Found) int { return cmp.Or(a.Start-b.Start, b.End-a.End) })
	kept, end := found[:0], 0
	for _, f := range found {
		if f.Start >= end {
			kept = append(kept, f)
			end = f.End
		}
	}
	return kept
}

// Rules, as they are on record.
const (
	image      = "image-with-data"
	link       = "link-with-data"
	script     = "script-link"
	unreadable = "unreadable-link"
)

// judge says what is wrong with a target, and what to write instead.
func (g *Guard) judge(raw string, isImage bool) (rule, instead string) {
	clean := strings.NewReplacer("\\", "/", "&amp;", "&").Replace(raw)
	lower := strings.ToLower(clean[:min(len(clean), 16)])
	switch {
	case strings.HasPrefix(lower, "javascript:"), strings.HasPrefix(lower, "vbscript:"), strings.HasPrefix(lower, "data:text/html"):
		return script, "#removed-script"
	case !strings.HasPrefix(lower, "http:") && !strings.HasPrefix(lower, "https:") && !strings.HasPrefix(lower, "//"):
		return "", "" // it stays where it is, or is no address
	}
	u, err := url.Parse(clean)
	if err != nil || u.Hostname() == "" {
		return unreadable, "#removed-link"
	}
	if g.allowed(u.Hostname()) || !carries(u, isImage) {
		return "", ""
	}
	instead = "hxxps://" + strings.ReplaceAll(u.Hostname(), ".", "[.]")
	if isImage {
		return image, instead
	}
	return link, instead
}

// How much data a target may carry unnoticed, in bytes. What is fetched without
// anybody doing anything may carry less.
const (
	maxImageQuery = 16
	maxLinkQuery  = 48
	maxSegment    = 48 // of the path or the host's name
)

// carries reports whether a target has room for data: a query, user info, a
// fragment that scripts read, or a long part of the path or the host.
func carries(u *url.URL, isImage bool) bool {
	most := maxLinkQuery
	if isImage {
		most = maxImageQuery
	}
	if u.User != nil || len(u.RawQuery) > most || !isImage && len(u.Fragment) > 2*most {
		return true
	}
	for _, part := range strings.FieldsFunc(u.Hostname()+"/"+u.Path, func(r rune) bool { return r == '/' || r == '.' }) {
		// Long names in words are titles; data has none.
		if len(part) > maxSegment && strings.Count(part, "-")+strings.Count(part, "_")+strings.Count(part, " ") < len(part)/16 {
			return true
		}
	}
	return false
}
