package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"

	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/taint"
)

// Seen is what a context has seen before a call, as policies are told of it.
type Seen struct {
	// Labels are those of its contents.
	Labels []*toolv1.Label
	// Suspects are the names of arguments that hold values which first came from
	// untrusted content, sorted; nil when it is not known which.
	Suspects []string
}

// seenBy is in front of the names of sources among inputs, with when they were seen.
const seenBy = "seen"

// tainted reports whether any content was untrusted.
func (s *Seen) tainted() bool { return s != nil && slices.ContainsFunc(s.Labels, taint.Untrusted) }

// Tells says, for the caller, which untrusted content was read and which arguments are
// from there; nothing where there is none.
func (s *Seen) Tells() string {
	var sources []string
	if s != nil {
		for _, l := range s.Labels {
			if text := l.GetSource() + when(l); taint.Untrusted(l) && !slices.Contains(sources, text) {
				sources = append(sources, text)
			}
		}
	}
	if len(sources) == 0 {
		return ""
	}
	const most = 3
	more := ""
	if n := len(sources) - most; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	text := "Untrusted content was read from " + strings.Join(sources[:min(len(sources), most)], ", ") + more
	if len(s.Suspects) > 0 {
		text += "; what is in " + clip(strings.Join(s.Suspects, ", "), maxInput) + " comes from such content"
	}
	return text + "."
}

// when is the time of a label as people read it, "" if it has none.
func when(l *toolv1.Label) string {
	if l.GetTime() == nil {
		return ""
	}
	return " at " + l.GetTime().AsTime().UTC().Format(time.RFC3339)
}

// record adds the attributes that somebody reads and that are known.
func (s *Seen) record(read attributes, m cedar.RecordMap) {
	if s == nil {
		return
	}
	if read&readsTainted != 0 {
		m[tainted] = cedar.Boolean(s.tainted())
	}
	for _, one := range seenSets {
		if read&one.bit != 0 {
			m[cedar.String(one.name)] = stringSet(s.words(one.word))
		}
	}
	if read&readsSuspects != 0 && s.Suspects != nil {
		m[suspects] = stringSet(s.Suspects)
	}
}

// inputs adds what is known of it to what is recorded.
func (s *Seen) inputs(read attributes, in map[string]string) {
	if s == nil {
		return
	}
	if read&readsTainted != 0 {
		in[tainted] = strconv.FormatBool(s.tainted())
	}
	for _, one := range seenSets {
		if read&one.bit != 0 {
			in[one.name] = list(s.words(one.word))
		}
	}
	if read&readsSuspects != 0 && s.Suspects != nil {
		in[suspects] = list(s.Suspects)
	}
	if read&(readsSeen|readsSuspects) == 0 {
		return
	}
	var all []string
	for _, l := range s.Labels {
		if taint.Untrusted(l) {
			all = append(all, l.GetSource()+when(l))
		}
	}
	if len(all) > 0 {
		in[seenBy] = list(all)
	}
}

// list joins words with commas, and ends with [Cut] if there is no room for all.
func list(words []string) string {
	text := strings.Join(words, ", ")
	if len(text) <= maxInput {
		return text
	}
	return clip(text, maxInput-len(Cut)) + Cut
}

// words are those of all labels, sorted.
func (s *Seen) words(of func(*toolv1.Label) string) (all []string) {
	for _, l := range s.Labels {
		all = append(all, of(l))
	}
	return sorted(all)
}

// seenSets are the attributes that are sets of words. It is a constant that Go cannot
// write as such.
var seenSets = []struct {
	bit  attributes
	name string
	word func(*toolv1.Label) string
}{
	{readsSeenSources, seenSources, (*toolv1.Label).GetSource},
	{readsSeenTrust, seenTrust, func(l *toolv1.Label) string { return trustWord(l.GetTrust()) }},
	{readsSeenSensitivity, seenSensitivity, func(l *toolv1.Label) string { return sensitivityWord(l.GetSensitivity()) }},
	{readsSeenTenants, seenTenants, (*toolv1.Label).GetTenant},
}

// trustWord is what policies call it. What does not say is untrusted.
func trustWord(t toolv1.Trust) string {
	switch t {
	case toolv1.Trust_TRUST_TRUSTED:
		return "trusted"
	case toolv1.Trust_TRUST_INTERNAL:
		return "internal"
	}
	return "untrusted"
}

// sensitivityWord is what policies call it. What does not say is internal.
func sensitivityWord(s toolv1.Sensitivity) string {
	switch s {
	case toolv1.Sensitivity_SENSITIVITY_PUBLIC:
		return "public"
	case toolv1.Sensitivity_SENSITIVITY_UNSPECIFIED, toolv1.Sensitivity_SENSITIVITY_INTERNAL:
		return "internal"
	}
	return "confidential"
}
