package approval_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/approval"
)

func TestLoosened(t *testing.T) {
	t.Parallel()
	before := &toolv1.Tool{
		Risk: toolv1.Risk_RISK_WRITE, Cost: 5, Scopes: []string{"a", "b"}, Tags: []string{"sql", "demo"}, Subjects: []string{"id"},
		Trust: toolv1.Trust_TRUST_INTERNAL, Sensitivity: toolv1.Sensitivity_SENSITIVITY_INTERNAL, Outbound: true,
		Uses: []*toolv1.Use{{Unit: "rows", Estimate: 5, Most: 9}, {Unit: "cents", Estimate: 1}},
	}
	tests := []struct {
		name string
		edit func(*toolv1.Tool)
		want string
	}{
		{"nothing is other", func(*toolv1.Tool) {}, ""},
		{"a title, a timeout, another order", func(o *toolv1.Tool) {
			o.Title, o.Timeout, o.Tags, o.Scopes = "T", durationpb.New(time.Minute), []string{"demo", "sql"}, []string{"b", "a"}
		}, ""},
		{"more of everything", func(o *toolv1.Tool) {
			o.Risk, o.Cost, o.Scopes = toolv1.Risk_RISK_DESTRUCTIVE, 6, []string{"a", "b", "c"}
			o.Trust, o.Sensitivity = toolv1.Trust_TRUST_UNTRUSTED, toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL
		}, ""},
		{"what is not said counts as the most", func(o *toolv1.Tool) { o.Risk, o.Trust, o.Sensitivity = 0, 0, 0 }, ""},
		{"risk", func(o *toolv1.Tool) { o.Risk = toolv1.Risk_RISK_READ }, "risk"},
		{"idempotent", func(o *toolv1.Tool) { o.Idempotent = true }, "idempotent"},
		{"cost", func(o *toolv1.Tool) { o.Cost = 0 }, "cost"},
		{"a scope less", func(o *toolv1.Tool) { o.Scopes = []string{"a", "c"} }, "scopes"},
		{"a tag less", func(o *toolv1.Tool) { o.Tags = []string{"sql"} }, "tags"},
		{"a tag more", func(o *toolv1.Tool) { o.Tags = []string{"sql", "demo", "x"} }, "tags"},
		{"trust", func(o *toolv1.Tool) { o.Trust = toolv1.Trust_TRUST_TRUSTED }, "trust"},
		{"sensitivity", func(o *toolv1.Tool) { o.Sensitivity = toolv1.Sensitivity_SENSITIVITY_PUBLIC }, "sensitivity"},
		{"not outbound any more", func(o *toolv1.Tool) { o.Outbound = false }, "outbound"},
		{"uses more", func(o *toolv1.Tool) {
			o.Uses = []*toolv1.Use{{Unit: "cents", Estimate: 2}, {Unit: "rows", Estimate: 6}, {Unit: "more", Estimate: 1}}
		}, ""},
		{"uses a unit less", func(o *toolv1.Tool) { o.Uses = o.Uses[:1] }, "uses"},
		{"a lower estimate", func(o *toolv1.Tool) { o.Uses[0].Estimate = 4 }, "uses"},
		{"less at most", func(o *toolv1.Tool) { o.Uses[1].Most = 1000 }, "uses"},
		{"other subjects", func(o *toolv1.Tool) { o.Subjects = nil }, "subjects"},
		{"an option of a later version", func(o *toolv1.Tool) {
			o.ProtoReflect().SetUnknown([]byte{0xf8, 0x3f, 1}) // field 1023
		}, "an option that is not known here"},
	}
	for _, tt := range tests {
		after := proto.CloneOf(before)
		tt.edit(after)
		if got := strings.Join(approval.Loosened(before, after), " "); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := approval.Loosened(nil, nil); len(got) > 0 {
		t.Errorf("of nothing: got %q", got)
	}
}

// An option that is added to the proto must be compared, or known to restrict
// nothing: whatever is changed alone is one or the other.
func TestEveryOptionIsLookedAt(t *testing.T) {
	t.Parallel()
	harmless := map[string]bool{"name": true, "title": true, "timeout": true, "stream": true}
	fields := (&toolv1.Tool{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		empty, full := &toolv1.Tool{}, &toolv1.Tool{}
		m := full.ProtoReflect()
		switch {
		case f.IsList() && f.Message() != nil:
			list := m.Mutable(f).List()
			list.Append(list.NewElement())
		case f.IsList():
			m.Mutable(f).List().Append(protoreflect.ValueOfString("x"))
		case f.Kind() == protoreflect.BoolKind:
			m.Set(f, protoreflect.ValueOfBool(true))
		case f.Kind() == protoreflect.Uint32Kind:
			m.Set(f, protoreflect.ValueOfUint32(7))
		case f.Kind() == protoreflect.EnumKind:
			m.Set(f, protoreflect.ValueOfEnum(1)) // the least, by the proto
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString("x"))
		case f.Kind() == protoreflect.MessageKind:
			m.Mutable(f)
		default:
			t.Fatalf("the test does not know how to set %s", f.Name())
		}
		seen := len(approval.Loosened(empty, full))+len(approval.Loosened(full, empty)) > 0
		if seen == harmless[string(f.Name())] {
			t.Errorf("%s: got looked at %v", f.Name(), seen)
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	before := &providerv1.ToolDefinition{Name: "t", Description: "d", InputSchema: []byte(`{"properties":{"a":{"type":"string"},"b":{}}}`)}
	after := &providerv1.ToolDefinition{Name: "t", Title: "T", Description: "e", InputSchema: []byte(`{"properties":{"a":{"type":"number"},"c":{}}}`)}
	if got, want := approval.Changes(before, after), `title, description, input ~"a", input -"b", input +"c"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	after.InputSchema = []byte(`{"properties":{"` + strings.Repeat("ü", 3000) + `":{}}}`)
	if got := approval.Changes(before, after); len(got) > 512 || !strings.HasSuffix(got, "…") {
		t.Errorf("got %d bytes, %s", len(got), got)
	}
}

// loose is an offer of a service with descriptors.
func loose(t *testing.T, description string, risk toolv1.Risk) approval.Offer {
	t.Helper()
	o := offer(t, "search", description)
	o.Provider, o.Definition.Options = false, &toolv1.Tool{Risk: risk}
	o.Digest[0] = byte(risk)
	return o
}

func TestModeLoosened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		x := start(t, b, nil).loaded(t)
		first, second := loose(t, "One.", toolv1.Risk_RISK_WRITE), loose(t, "Two.", toolv1.Risk_RISK_WRITE)
		looser := loose(t, "Two.", toolv1.Risk_RISK_READ)
		for _, o := range []approval.Offer{first, second} {
			if x.withholds(o) {
				t.Errorf("%s is withheld, and is no looser", o.Definition.GetDescription())
			}
			synctest.Wait()
			if a, err := x.Read(t.Context(), "github", "search"); err != nil || string(a.GetDigest()) != string(o.Digest) {
				t.Errorf("%s is not on record: %v, %v", o.Definition.GetDescription(), a, err)
			}
		}
		if !x.withholds(looser) {
			t.Error("a looser definition is in use")
		}
		synctest.Wait()
		want := []string{"tool.approve first use", "tool.change " + approval.Covered}
		var got []string
		for _, e := range x.ledger.take() {
			got = append(got, e.GetAdmin().GetOperation()+" "+e.GetAdmin().GetDetails()["by"])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}

		// Another executor still has the first version in use, and says so when it
		// starts. Neither goes on to correct the other.
		y := start(t, b, nil).loaded(t)
		for range 10 {
			y.withholds(first)
			x.withholds(second)
			synctest.Wait()
		}
		if events := slices.Concat(x.ledger.take(), y.ledger.take()); len(events) != 1 {
			t.Errorf("got %d events of two executors that see different versions, want one: %v", len(events), events)
		}
		x.stop()
		y.stop()
	})
}

// What is too large to be kept whole is compared all the same.
func TestALargeDefinitionIsCompared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := start(t, newBucket(), nil).loaded(t)
		text := strings.Repeat("x", 16385)
		if x.withholds(loose(t, text, toolv1.Risk_RISK_WRITE)) {
			t.Error("a large definition is withheld")
		}
		synctest.Wait()
		if !x.withholds(loose(t, text, toolv1.Risk_RISK_READ)) {
			t.Error("a looser definition is in use")
		}
		x.stop()
	})
}
