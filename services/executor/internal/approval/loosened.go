package approval

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// Loosened says by which options a tool is less restricted than it was, or may be:
// tags and subjects are what policies speak of, and only they know what a change
// means. An option that is not known here counts too. It is empty if there is
// none.
func Loosened(before, after *toolv1.Tool) (how []string) {
	less := func(is bool, option string) {
		if is {
			how = append(how, option)
		}
	}
	less(risk(after) < risk(before), "risk")
	less(after.GetIdempotent() && !before.GetIdempotent(), "idempotent")
	less(max(after.GetCost(), 1) < max(before.GetCost(), 1), "cost")
	less(!subset(before.GetScopes(), after.GetScopes()), "scopes")
	less(!subset(before.GetTags(), after.GetTags()) || !subset(after.GetTags(), before.GetTags()), "tags")
	less(trust(after) < trust(before), "trust")
	less(sensitivity(after) < sensitivity(before), "sensitivity")
	less(before.GetOutbound() && !after.GetOutbound(), "outbound")
	less(!slices.Equal(before.GetSubjects(), after.GetSubjects()), "subjects")
	less(cheaper(before.GetUses(), after.GetUses()), "uses")
	less(!proto.Equal(rest(before), rest(after)), "an option that is not known here")
	return how
}

// risk, trust and sensitivity are the higher, the more a tool is restricted.
func risk(o *toolv1.Tool) toolv1.Risk {
	if o.GetRisk() == toolv1.Risk_RISK_UNSPECIFIED {
		return toolv1.Risk_RISK_DESTRUCTIVE
	}
	return o.GetRisk()
}

func trust(o *toolv1.Tool) toolv1.Trust {
	if o.GetTrust() == toolv1.Trust_TRUST_UNSPECIFIED {
		return toolv1.Trust_TRUST_UNTRUSTED
	}
	return o.GetTrust()
}

func sensitivity(o *toolv1.Tool) toolv1.Sensitivity {
	if o.GetSensitivity() == toolv1.Sensitivity_SENSITIVITY_UNSPECIFIED {
		return toolv1.Sensitivity_SENSITIVITY_INTERNAL
	}
	return o.GetSensitivity()
}

// rest is what is left without the options that are compared one by one, and those
// that restrict nothing.
func rest(o *toolv1.Tool) *toolv1.Tool {
	r := proto.CloneOf(o)
	if r == nil {
		r = new(toolv1.Tool)
	}
	r.Name, r.Title, r.Risk, r.Idempotent, r.Timeout, r.Cost = "", "", 0, false, nil, 0
	r.Scopes, r.Tags, r.Trust, r.Sensitivity, r.Outbound, r.Stream, r.Subjects, r.Uses = nil, nil, 0, 0, false, 0, nil, nil
	return r
}

// cheaper reports whether less of a unit can be set aside for a call, or charged, than
// before.
func cheaper(before, after []*toolv1.Use) bool {
	most := func(u *toolv1.Use) uint64 {
		if u.GetMost() == 0 {
			return math.MaxUint64
		}
		return u.GetMost()
	}
	for _, b := range before {
		i := slices.IndexFunc(after, func(a *toolv1.Use) bool { return a.GetUnit() == b.GetUnit() })
		if i < 0 || after[i].GetEstimate() < b.GetEstimate() || most(after[i]) < most(b) {
			return true
		}
	}
	return false
}

func subset(of, all []string) bool {
	for _, s := range of {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

// maxChanges bounds the words of [Changes], in bytes: what a detail of an audit
// event may have.
const maxChanges = 512

// Changes says in few words what of a definition is other than before, for
// operators. `sallyport tool diff` has all of it.
func Changes(before, after *providerv1.ToolDefinition) string {
	var all []string
	note := func(is bool, what string) {
		if is {
			all = append(all, what)
		}
	}
	note(before.GetTitle() != after.GetTitle(), "title")
	note(before.GetDescription() != after.GetDescription(), "description")
	note(!proto.Equal(before.GetOptions(), after.GetOptions()), "options")
	all = append(all, properties("input", before.GetInputSchema(), after.GetInputSchema())...)
	all = append(all, properties("output", before.GetOutputSchema(), after.GetOutputSchema())...)
	note(!bytes.Equal(before.GetMeta(), after.GetMeta()), "meta")
	note(!slices.EqualFunc(before.GetIcons(), after.GetIcons(), func(a, b *providerv1.Icon) bool { return proto.Equal(a, b) }), "icons")
	text := strings.Join(all, ", ")
	if len(text) > maxChanges {
		text = strings.ToValidUTF8(text[:maxChanges-3], "") + "…"
	}
	return text
}

// properties says which properties of a schema are new, gone or different.
func properties(schema string, before, after []byte) (all []string) {
	if bytes.Equal(before, after) {
		return nil
	}
	var old, now struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(before, &old) != nil || json.Unmarshal(after, &now) != nil {
		return []string{schema + " schema"}
	}
	names := maps.Clone(old.Properties)
	if names == nil {
		names = make(map[string]json.RawMessage)
	}
	maps.Copy(names, now.Properties)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, had := old.Properties[name]
		is, has := now.Properties[name]
		switch {
		case !had:
			all = append(all, fmt.Sprintf("%s +%q", schema, name))
		case !has:
			all = append(all, fmt.Sprintf("%s -%q", schema, name))
		case !bytes.Equal(was, is):
			all = append(all, fmt.Sprintf("%s ~%q", schema, name))
		}
	}
	if len(all) == 0 {
		all = append(all, schema+" schema")
	}
	return all
}
