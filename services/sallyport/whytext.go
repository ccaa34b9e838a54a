package main

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// paper is what explanations are written on: a label, then what is to be said,
// line by line.
type paper struct {
	w      io.Writer
	colour bool
	err    error // the first that happened
}

func paperFor(w io.Writer) *paper { return &paper{w: w, colour: colourful(w)} }

// labelled is how wide labels are.
const labelled = 11

// line writes a label and a text of one or many lines; nothing if the text is
// empty. Nothing in it can act on a terminal.
func (p *paper) line(label, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		if text == "" || p.err != nil {
			return
		}
		line = strings.TrimRight(fmt.Sprintf("%-*s%s", labelled, label, visible(line, true)), " ")
		_, p.err = fmt.Fprintln(p.w, line)
		label = ""
	}
}

// head writes the first line: what it is about, and how it ended.
func (p *paper) head(words ...string) {
	text := visible(strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), "  "), false)
	if p.colour {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, text)
	}
}

// write tells all of it to a person.
func (d *dossier) write(p *paper) error {
	decided := d.deciding()
	first := cmp.Or(decided, d.events[0])
	means, next := meaning(d.reason())
	p.head(d.id, strings.ToUpper(d.verdict()), reasonName(d.reason()))
	p.line("", means)

	p.line("told", decided.GetDecision().GetMessage())
	d.writePolicy(p, decided.GetDecision())
	p.line("who", who(first.GetActor()))
	p.line("from", from(first.GetActor()))
	p.line("what", strings.TrimSpace(first.GetAction()+" "+first.GetTarget()))
	if a := decided.GetDecision().GetArguments(); a != nil {
		p.line("arguments", cmp.Or(a.GetShape(), "(none)")+"\nsha256 "+hex.EncodeToString(a.GetSha256()))
	}
	p.line("tainted", tainted(decided.GetDecision()))
	p.line("inputs", inputs(withoutSeen(decided.GetDecision().GetInputs())))
	p.line("near", nearMisses(decided.GetDecision().GetNearMisses()))
	d.writeApproval(p)
	for i, e := range d.events {
		label := ""
		if i == 0 {
			label = "happened"
		}
		what, why := describe(e)
		p.line(label, strings.TrimSpace(fmt.Sprintf("%s  %-9s %-9s %s", clock(e), e.GetService(), what, why)))
	}
	p.line("guards", guardFindings(d.ending().GetOutcome().GetGuardFindings()))
	p.line("used", usedUnits(d.ending().GetOutcome().GetUsed()))
	p.line("trace", d.trace())
	p.line("next", next+d.commands())
	return p.err
}

func (d *dossier) writePolicy(p *paper, decision *auditv1.Decision) {
	if decision == nil {
		return
	}
	rule, where := decision.GetRule(), decision.GetRuleSource()
	if where != "" {
		where = " (" + where + ")"
	}
	switch {
	case d.policy != nil:
		p.line("policy", rule+where+"\n"+clipLines(d.policy.text, 30))
	case rule != "":
		p.line("policy", rule+where)
	case decision.GetReason() == auditv1.Reason_REASON_POLICY_DENIED:
		p.line("policy", "none: no policy permits it, so it is denied")
	}
	switch {
	case d.then == "" || d.then == d.now:
	case d.now == "":
		p.line("policies", short(d.then)+"; which are in use now is not known")
	default:
		p.line("policies", fmt.Sprintf("%s then, %s now: they have changed since", short(d.then), short(d.now)))
	}
}

func (d *dossier) writeApproval(p *paper) {
	id := d.approvalID()
	if id == "" {
		return
	}
	a := d.approval
	if a == nil {
		p.line("approval", id)
		return
	}
	text := id + " is " + strings.ToLower(strings.TrimPrefix(a.GetState().String(), "APPROVAL_STATE_"))
	if a.GetDecidedBy() != "" {
		text += fmt.Sprintf("; decided by %s at %s", a.GetDecidedBy(), stamp(a.GetDecideTime()))
	} else if a.GetExpireTime() != nil {
		text += " until " + stamp(a.GetExpireTime())
	}
	if a.GetNote() != "" {
		text += "\n" + a.GetNote()
	}
	p.line("approval", text)
}

// toolName is the form of the names that tools have.
var toolName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// commands are what can be copied to go on.
func (d *dossier) commands() (lines string) {
	first := cmp.Or(d.deciding(), d.events[0])
	if !toolName.MatchString(first.GetTarget()) {
		return "" // what a caller has made up is not put into a command
	}
	switch id := d.approvalID(); {
	case d.reason() == auditv1.Reason_REASON_APPROVAL_REQUIRED && id != "":
		lines += "\nsallyport approvals show " + id
	case d.reason() == auditv1.Reason_REASON_POLICY_DENIED && first.GetAction() == "tools/call" && strings.HasPrefix(first.GetActor().GetPrincipal(), "key:"):
		lines += fmt.Sprintf("\nsallyport can-i call %s --as %s", first.GetTarget(), first.GetActor().GetCredentialId())
	case d.reason() == auditv1.Reason_REASON_TOOL_WITHHELD:
		lines += "\nsallyport tool diff " + first.GetTarget()
	}
	return lines
}

// trace returns the trace id of the call, "" if there is none.
func (d *dossier) trace() string {
	for _, e := range d.events {
		if parts := strings.Split(e.GetTraceparent(), "-"); len(parts) > 2 {
			return parts[1]
		}
	}
	return ""
}

func who(a *auditv1.Actor) string {
	text := cmp.Or(a.GetPrincipal(), "nobody who is known")
	if a.GetPrincipal() == "" && a.GetCredentialId() != "" {
		text += ", credential " + a.GetCredentialId()
	}
	if len(a.GetRoles()) > 0 {
		text += ", roles " + strings.Join(a.GetRoles(), " ")
	}
	if a.GetTenant() != "" {
		text += ", tenant " + a.GetTenant()
	}
	return text
}

func from(a *auditv1.Actor) string {
	var parts []string
	for _, part := range [][2]string{{"address", a.GetAddress()}, {"client", a.GetClient()}, {"context", a.GetContextId()}} {
		if part[1] != "" {
			parts = append(parts, part[0]+" "+part[1])
		}
	}
	return strings.Join(parts, ", ")
}

// inputs is what policies have read, on lines.
func inputs(in map[string]string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(in)) {
		lines = append(lines, strings.TrimSpace(name+" "+in[name]))
	}
	return strings.Join(lines, "\n")
}

func nearMisses(all []*auditv1.NearMiss) string {
	var lines []string
	for _, n := range all {
		lines = append(lines, fmt.Sprintf("would be allowed with: %s (%s)", n.GetMissing(), strings.Trim(n.GetRule()+", "+n.GetRuleSource(), ", ")))
	}
	return strings.Join(lines, "\n")
}

// guardFindings is what guards have found, on lines.
func guardFindings(all []*auditv1.GuardFinding) string {
	var lines []string
	for _, f := range all {
		where := cmp.Or(f.GetPointer(), "the whole")
		lines = append(lines, fmt.Sprintf("%s %s: %s in the %s, %d times, first at %s",
			f.GetGuard(), strings.ToLower(strings.TrimPrefix(f.GetAction().String(), "GUARD_ACTION_")), f.GetRule(),
			strings.ToLower(strings.TrimPrefix(f.GetSide().String(), "GUARD_SIDE_")), f.GetCount(), where)+score(f.GetScore()))
	}
	return strings.Join(lines, "\n")
}

// usedUnits is what quotas that count units were charged, on lines.
func usedUnits(all []*auditv1.Used) string {
	var lines []string
	for _, u := range all {
		line := fmt.Sprintf("%s %d", u.GetUnit(), u.GetAmount())
		switch {
		case u.GetEstimated():
			line += ", as its definition expects: nobody knows what it used"
		case u.GetCapped():
			line += ", the most by its definition: it reported more"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// score is how sure a guard was, where it says so.
func score(of float64) string {
	if of == 0 {
		return ""
	}
	return fmt.Sprintf(", score %.2f", of)
}

func clock(e *auditv1.Event) string {
	return e.GetTime().AsTime().UTC().Format("2006-01-02 15:04:05.000")
}

// short is a hash as people compare it.
func short(version string) string { return version[:min(len(version), 12)] }

// clipLines keeps a text within n lines.
func clipLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	if len(lines) <= n {
		return text
	}
	return strings.Join(lines[:n], "\n") + fmt.Sprintf("\n… %d more lines", len(lines)-n)
}

// writeJSON tells all of it to a program.
func (d *dossier) writeJSON(w io.Writer) error {
	decided := d.deciding()
	first := cmp.Or(decided, d.events[0])
	means, next := meaning(d.reason())
	events := []json.RawMessage{}
	for _, e := range d.events {
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e)
		if err != nil {
			return failed(err)
		}
		events = append(events, raw)
	}
	all := map[string]any{
		"decision_id": d.id, "verdict": d.verdict(), "reason": reasonName(d.reason()), "meaning": means, "next": next,
		"message": decided.GetDecision().GetMessage(), "time": first.GetTime().AsTime().UTC().Format(time.RFC3339Nano),
		"policy": decided.GetDecision().GetRule(), "policy_source": decided.GetDecision().GetRuleSource(),
		"policies": d.then, "policies_in_use": d.now,
		"principal": first.GetActor().GetPrincipal(), "action": first.GetAction(), "target": first.GetTarget(),
		"trace_id": d.trace(), "events": events,
	}
	if d.policy != nil {
		all["policy_text"], all["annotations"] = d.policy.text, d.policy.notes
	}
	if d.approval != nil {
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(d.approval)
		if err != nil {
			return failed(err)
		}
		var a map[string]any
		if err := json.Unmarshal(raw, &a); err != nil {
			return failed(err)
		}
		delete(a, "arguments") // who approves looks at these by another command
		all["approval"] = a
	}
	if err := writeJSON(w, all); err != nil {
		return failed(err)
	}
	return nil
}
