package audit_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// record returns e as it comes out at the other end of a recorder.
func record(t *testing.T, e *auditv1.Event) *auditv1.Event {
	t.Helper()
	s := &stream{}
	r := newRecorder(t, s, audit.DefaultConfig())
	stop := start(t, r)
	if err := r.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return s.batches(t)[0].GetEvents()[0]
}

func TestTextsAreCutToExactlyWhatTheRulesAllow(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	actor := func() *auditv1.Actor {
		return &auditv1.Actor{Principal: long, CredentialId: long, Tenant: long, Address: long, Client: long, ContextId: long}
	}
	arguments := audit.Arguments(make([]byte, 32), long)
	tests := []struct {
		name string
		in   *auditv1.Event
	}{{
		name: "a decision",
		in: &auditv1.Event{
			Actor: actor(), Service: long, Node: long, DecisionId: long, Action: long, Target: long,
			What: &auditv1.Event_Decision{Decision: &auditv1.Decision{Rule: long, RuleSource: long, Message: long, Arguments: arguments}},
		},
	}, {
		name: "an intent",
		in:   &auditv1.Event{What: &auditv1.Event_Intent{Intent: &auditv1.Intent{Service: long, Arguments: arguments}}},
	}, {
		name: "an outcome",
		in:   &auditv1.Event{What: &auditv1.Event_Outcome{Outcome: &auditv1.Outcome{}}},
	}, {
		name: "a change",
		in:   &auditv1.Event{What: &auditv1.Event_Admin{Admin: &auditv1.AdminChange{Operation: long, Object: long}}},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkLengths(t, record(t, proto.CloneOf(tt.in)).ProtoReflect(), long)
		})
	}
}

// checkLengths compares each text that began as long with its rule.
func checkLengths(t *testing.T, m protoreflect.Message, long string) {
	t.Helper()
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() == protoreflect.MessageKind && !f.IsList() && !f.IsMap():
			checkLengths(t, v.Message(), long)
		case f.Kind() == protoreflect.StringKind && !f.IsList() && strings.HasPrefix(v.String(), "xx"):
			rules := proto.GetExtension(f.Options(), validate.E_Field).(*validate.FieldRules)
			if got, want := len(v.String()), int(rules.GetString().GetMaxLen()); got != want {
				t.Errorf("%s: got %d bytes, want %d", f.FullName(), got, want)
			}
		}
		return true
	})
}

func TestTextThatIsNotUTF8IsRepairedAndRecorded(t *testing.T) {
	t.Parallel()
	bad := "a\xffb"
	got := record(t, &auditv1.Event{
		Target: bad,
		Actor:  &auditv1.Actor{Client: bad, Roles: []string{"ok", bad}},
		What: &auditv1.Event_Admin{Admin: &auditv1.AdminChange{
			Operation: "key.create", Details: map[string]string{bad: bad, "fine": "fine"},
		}},
	})
	for what, text := range map[string]string{
		"target": got.GetTarget(),
		"client": got.GetActor().GetClient(),
		"role":   got.GetActor().GetRoles()[1],
		"detail": got.GetAdmin().GetDetails()["a?b"],
	} {
		if text != "a?b" {
			t.Errorf("%s: got %q, want %q", what, text, "a?b")
		}
	}
	if got.GetAdmin().GetDetails()["fine"] != "fine" || len(got.GetAdmin().GetDetails()) != 2 {
		t.Errorf("got details %q", got.GetAdmin().GetDetails())
	}
}

func TestACutDoesNotSplitACharacter(t *testing.T) {
	t.Parallel()
	e := event(strings.Repeat("x", 511) + "é")
	if got := record(t, e).GetTarget(); got != strings.Repeat("x", 511) {
		t.Errorf("got a target of %d bytes, want 511", len(got))
	}
}

func TestAnEventThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, &stream{}, audit.DefaultConfig())
	e := event("x")
	e.Actor = &auditv1.Actor{Roles: []string{strings.Repeat("r", audit.MaxEventBytes)}}
	wantRefusal(t, r.Record(t.Context(), e), audit.ErrTooLarge)
}

func TestConfigReportsAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	if err := audit.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	err := audit.Config{DrainTimeout: time.Hour}.Validate()
	for _, field := range []string{"queue:", "queue_bytes:", "publish_timeout:", "drain_timeout:"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("got %v, want it to name %s", err, field)
		}
	}
}

func FuzzRecordTakesAnyText(f *testing.F) {
	f.Add("run_sql_query", "claude")
	f.Add("\xff\xfe", "\x00")
	f.Add(strings.Repeat("é", 400), strings.Repeat("\xc3", 300))
	s := &stream{}
	r, err := audit.NewRecorder(audit.Options{Publisher: s, Service: "edge", Config: audit.DefaultConfig()})
	if err != nil {
		f.Fatal(err)
	}
	ctx, ended := f.Context(), make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	f.Fuzz(func(t *testing.T, target, client string) {
		e := event(target)
		e.Actor = &auditv1.Actor{Client: client}
		if err := r.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		all := s.batches(t)
		got := all[len(all)-1].GetEvents()[0]
		if !utf8.ValidString(got.GetTarget()) || len(got.GetTarget()) > 512 || len(got.GetActor().GetClient()) > 256 {
			t.Errorf("got target %q and client %q", got.GetTarget(), got.GetActor().GetClient())
		}
		s.mu.Lock()
		s.bytes, s.ids = nil, nil
		s.mu.Unlock()
	})
}
