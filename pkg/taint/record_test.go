package taint_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/taint"
)

var (
	key = []byte("a key of the test, 32 bytes long")
	now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
)

func untrusted(source string, at time.Time) *toolv1.Label {
	return taint.NewLabel(source, "default", &toolv1.Tool{}, at)
}

// again seals and opens a record.
func again(t *testing.T, r *taint.Record, at time.Time) *taint.Record {
	t.Helper()
	sealed, err := taint.Seal("n", r, "k", key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := taint.Open("n", sealed, key, at)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestNames(t *testing.T) {
	t.Parallel()
	name := func(principal string, source authv1.ContextSource, id string) string {
		return taint.Name(principal, &authv1.Origin{ContextId: id, ContextSource: source})
	}
	const explicit, session, trace, unnamed = authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT, authv1.ContextSource_CONTEXT_SOURCE_SESSION,
		authv1.ContextSource_CONTEXT_SOURCE_TRACE, authv1.ContextSource_CONTEXT_SOURCE_PRINCIPAL
	for _, other := range []string{
		name("b", explicit, "1"), name("a", explicit, "2"), name("a", session, "1"), taint.OfPrincipal("a"), name("a1", explicit, ""),
	} {
		if other == name("a", explicit, "1") {
			t.Error("another principal, context or kind has the same record")
		}
	}
	for _, same := range []string{name("a", trace, "1"), name("a", trace, "2"), name("a", unnamed, "x"), name("a", authv1.ContextSource_CONTEXT_SOURCE_UNSPECIFIED, "")} {
		if same != taint.OfPrincipal("a") {
			t.Error("a trace, or no context, has a record of its own")
		}
	}
}

func TestRecordIsKept(t *testing.T) {
	t.Parallel()
	r := taint.NewRecord()
	r.Know("mail:a@b.example")
	if !r.See(untrusted("read_mail", now)) || !r.Distrust("host:evil.example") || r.Distrust("mail:a@b.example") {
		t.Error("news was taken for none, or the other way round")
	}
	r.Know("host:evil.example") // too late
	r.SeeElsewhere(untrusted("read_page", now))
	got := again(t, r, now)
	if got.See(untrusted("read_mail", now.Add(taint.Grain/2))) || got.Distrust("host:evil.example") || got.Distrust("mail:a@b.example") {
		t.Error("what was kept is news")
	}
	if !got.See(untrusted("read_mail", now.Add(taint.Grain))) {
		t.Error("a label is not renewed")
	}
	suspects, err := got.Suspects([]byte(`{"to":"a@b.example","url":"https://evil.example/","n":7}`))
	if err != nil || !slices.Equal(suspects, []string{"url"}) {
		t.Errorf("Suspects = %q, %v", suspects, err)
	}
	if n := len(got.Labels()); n != 1 {
		t.Errorf("%d labels, want 1", n)
	}
	if len(got.Elsewhere(now)) != 1 || len(got.Elsewhere(now.Add(time.Second))) != 0 {
		t.Error("what was seen elsewhere is not by its time")
	}
}

// A sealed record holds no value, and is good for its name, its key and unchanged.
func TestSealHidesAndBinds(t *testing.T) {
	t.Parallel()
	r := taint.NewRecord()
	r.See(untrusted("read_mail", now))
	r.Distrust("mail:canary@evil.example")
	sealed, err := taint.Seal("n", r, "k", key)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"canary", "read_mail"} {
		if bytes.Contains(sealed, []byte(text)) {
			t.Errorf("%q is in the sealed record", text)
		}
	}
	if id := taint.KeyID(sealed); id != "k" {
		t.Errorf("KeyID = %q", id)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for name, open := range map[string]func() (*taint.Record, error){
		"another name": func() (*taint.Record, error) { return taint.Open("m", sealed, key, now) },
		"another key": func() (*taint.Record, error) {
			return taint.Open("n", sealed, []byte("another key of it, 32 bytes long"), now)
		},
		"no key":  func() (*taint.Record, error) { return taint.Open("n", sealed, nil, now) },
		"changed": func() (*taint.Record, error) { return taint.Open("n", changed, key, now) },
		"nothing": func() (*taint.Record, error) { return taint.Open("n", nil, key, now) },
		"cut":     func() (*taint.Record, error) { return taint.Open("n", sealed[:2], key, now) },
	} {
		if _, err := open(); !errors.Is(err, taint.ErrForeign) {
			t.Errorf("%s: got %v, want ErrForeign", name, err)
		}
	}
}

// What has no room makes everything suspect, and not less.
func TestOverflowIsSuspect(t *testing.T) {
	t.Parallel()
	r := taint.NewRecord()
	for i := range 70 {
		l := untrusted(fmt.Sprint("tool_", i), now)
		l.Trust, l.Sensitivity = toolv1.Trust_TRUST_TRUSTED, toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL
		r.See(l)
	}
	for i := range 5000 {
		r.Distrust(fmt.Sprint("id:", i))
	}
	r = again(t, r, now)
	if !slices.ContainsFunc(r.Labels(), taint.Untrusted) {
		t.Error("labels beyond the bound are forgotten")
	}
	got, err := r.Suspects([]byte(`{"a":"never seen","b":1,"c":null}`))
	if err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("Suspects = %q, %v; want all", got, err)
	}
}

func TestRecordForgets(t *testing.T) {
	t.Parallel()
	r := taint.NewRecord()
	r.See(untrusted("read_mail", now))
	r.Distrust("host:evil.example")
	if got := again(t, r, now.Add(bus.ContextLife)); len(got.Labels()) != 1 || !got.Doubts() {
		t.Error("forgotten too early")
	}
	if got := again(t, r, now.Add(bus.ContextLife+2*bus.ClockSkew)); len(got.Labels()) != 0 || got.Doubts() {
		t.Error("not forgotten")
	}
}
