package approval_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/approval"
)

func box(t testing.TB, fill byte) *approval.Box {
	t.Helper()
	b, err := approval.NewBox(secret.NewKey(bytes.Repeat([]byte{fill}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func record(id string) *authv1.ApprovalRecord {
	return &authv1.ApprovalRecord{
		Approval:   &authv1.CallApproval{Id: id, State: authv1.ApprovalState_APPROVAL_STATE_PENDING, Arguments: []byte(`{"a":"private"}`)},
		ToolDigest: []byte{1}, ArgumentsSha256: []byte{2},
	}
}

func TestKeysOfCallsDiffer(t *testing.T) {
	t.Parallel()
	call := approval.Call{Principal: "key:a", Tool: "look", ToolDigest: []byte("digest"), ArgumentsSHA256: []byte("sum")}
	if same := call; same.Key() != call.Key() || len(call.Key()) != 64 {
		t.Errorf("got %q, want 64 digits, always the same", call.Key())
	}
	tests := []struct {
		name string
		edit func(*approval.Call)
	}{
		{"another principal", func(c *approval.Call) { c.Principal = "key:b" }},
		{"another tool", func(c *approval.Call) { c.Tool = "Look" }},
		{"another definition", func(c *approval.Call) { c.ToolDigest = []byte("Digest") }},
		{"no definition", func(c *approval.Call) { c.ToolDigest = nil }},
		{"other arguments", func(c *approval.Call) { c.ArgumentsSHA256 = []byte("Sum") }},
		{"the same bytes cut elsewhere", func(c *approval.Call) { c.Principal, c.Tool = "key:al", "ook" }},
		{"the same bytes cut elsewhere at the end", func(c *approval.Call) { c.ToolDigest, c.ArgumentsSHA256 = []byte("digests"), []byte("um") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			other := call
			tt.edit(&other)
			if other.Key() == call.Key() {
				t.Error("it has the same key")
			}
		})
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	sealed, err := box(t, 1).Seal("k", record("a_1"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("private")) {
		t.Error("the arguments are in clear")
	}
	if again, _ := box(t, 1).Seal("k", record("a_1")); bytes.Equal(again, sealed) {
		t.Error("the same record is sealed to the same bytes")
	}
	empty, err := box(t, 1).Seal("k", &authv1.ApprovalRecord{})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		box    *approval.Box
		key    string
		edit   func([]byte) []byte
		opens  bool
		broken bool // for another reason than the seal
	}{
		{name: "what was sealed", box: box(t, 1), key: "k", opens: true},
		{name: "by another key", box: box(t, 2), key: "k"},
		{name: "in another place", box: box(t, 1), key: "l"},
		{name: "of another version", box: box(t, 1), key: "k", edit: func(b []byte) []byte { b[0]++; return b }},
		{name: "with a changed nonce", box: box(t, 1), key: "k", edit: func(b []byte) []byte { b[1]++; return b }},
		{name: "with a changed byte", box: box(t, 1), key: "k", edit: func(b []byte) []byte { b[20]++; return b }},
		{name: "cut", box: box(t, 1), key: "k", edit: func(b []byte) []byte { return b[:len(b)-1] }},
		{name: "cut to the nonce", box: box(t, 1), key: "k", edit: func(b []byte) []byte { return b[:5] }},
		{name: "nothing", box: box(t, 1), key: "k", edit: func([]byte) []byte { return nil }},
		{name: "of no approval", box: box(t, 1), key: "k", edit: func([]byte) []byte { return empty }, broken: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := bytes.Clone(sealed)
			if tt.edit != nil {
				text = tt.edit(text)
			}
			got, err := tt.box.Open(tt.key, text)
			if tt.opens {
				if err != nil || !proto.Equal(got, record("a_1")) {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if got != nil || err == nil || errors.Is(err, approval.ErrForeign) == tt.broken {
				t.Errorf("got %v, %v; want an error", got, err)
			}
		})
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	const (
		pending  = authv1.ApprovalState_APPROVAL_STATE_PENDING
		approved = authv1.ApprovalState_APPROVAL_STATE_APPROVED
		denied   = authv1.ApprovalState_APPROVAL_STATE_DENIED
		used     = authv1.ApprovalState_APPROVAL_STATE_USED
		expired  = authv1.ApprovalState_APPROVAL_STATE_EXPIRED
	)
	tests := []struct {
		name  string
		is    authv1.ApprovalState
		now   time.Time
		want  authv1.ApprovalState
		ended time.Time
	}{
		{"pending before its end", pending, noon.Add(-1), pending, time.Time{}},
		{"pending at its end", pending, noon, expired, noon},
		{"approved before its end", approved, noon.Add(-1), approved, time.Time{}},
		{"approved at its end", approved, noon, expired, noon},
		{"denied, whenever", denied, noon.Add(time.Hour), denied, noon.Add(-time.Minute)},
		{"used, whenever", used, noon.Add(time.Hour), used, noon.Add(-time.Minute)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := &authv1.CallApproval{State: tt.is, ExpireTime: timestamppb.New(noon), DecideTime: timestamppb.New(noon.Add(-time.Minute))}
			if got := approval.State(a, tt.now); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if got := approval.Ended(a, tt.now); !got.Equal(tt.ended) {
				t.Errorf("got ended %v, want %v", got, tt.ended)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	b := box(f, 1)
	sealed, err := b.Seal("k", record("a_1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("k", sealed)
	f.Add("l", sealed)
	f.Add("k", sealed[:8])
	f.Add("", []byte{1})
	f.Fuzz(func(t *testing.T, key string, text []byte) {
		got, err := b.Open(key, text)
		if err == nil && (key != "k" || !proto.Equal(got, record("a_1"))) {
			t.Errorf("Open(%q, %x): got %v, which was never sealed", key, text, got)
		}
	})
}
