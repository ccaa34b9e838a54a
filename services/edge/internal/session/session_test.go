package session_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/edge/internal/session"
)

var (
	older = bytes.Repeat([]byte{1}, 32)
	newer = bytes.Repeat([]byte{2}, 32)
	noon  = time.Unix(1_800_000_000, 0)
)

func mint(t testing.TB, keys ...[]byte) *session.Mint {
	t.Helper()
	m, err := session.New(keys, "2025-11-25", "2025-06-18")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAnIDSaysWhatWasPutIntoIt(t *testing.T) {
	t.Parallel()
	m := mint(t, older)
	can := session.ElicitForm | session.Roots
	client := "claude/2.0 " + strings.Repeat("x", session.MaxClient)
	id := m.Make("key:anna", session.Session{Version: "2025-06-18", Capabilities: can, Expires: noon.Add(time.Hour), Client: client})
	if len(id) > session.MaxLength {
		t.Errorf("the id has %d characters, want at most %d", len(id), session.MaxLength)
	}
	for _, c := range id {
		if c < 0x21 || c > 0x7e {
			t.Errorf("the id has %q, want visible ASCII", c)
		}
	}
	got, ok := m.Open(id, "key:anna", noon)
	if !ok {
		t.Fatal("the id is not taken")
	}
	if len(got.ID) != 22 || !strings.Contains("s1."+got.ID, got.ID) {
		t.Errorf("got id %q, want 22 characters", got.ID)
	}
	want := session.Session{ID: got.ID, Expires: noon.Add(time.Hour), Version: "2025-06-18", Capabilities: can, Client: client[:session.MaxClient]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Open (-want +got):\n%s", diff)
	}
	if other := m.Make("key:anna", session.Session{Version: "2025-06-18", Capabilities: can, Expires: noon.Add(time.Hour)}); other == id {
		t.Error("two sessions have one id")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	m := mint(t, older)
	good := m.Make("key:anna", session.Session{Version: "2025-11-25", Expires: noon.Add(time.Hour)})
	other := m.Make("key:anna", session.Session{Version: "2025-11-25", Capabilities: session.Sample, Expires: noon.Add(2 * time.Hour)})
	body, mac := good[:strings.LastIndexByte(good, '.')], good[strings.LastIndexByte(good, '.'):]
	tests := []struct {
		name, id, principal string
		at                  time.Time
		by                  *session.Mint
	}{
		{name: "an id of somebody else", id: good, principal: "key:bob"},
		{name: "an id whose time is over", id: good, at: noon.Add(time.Hour)},
		{name: "an id under another key", id: good, by: mint(t, newer)},
		{name: "the MAC of another id", id: body + other[strings.LastIndexByte(other, '.'):]},
		{name: "the body of another id", id: other[:strings.LastIndexByte(other, '.')] + mac},
		{name: "no MAC", id: body},
		{name: "an empty MAC", id: body + "."},
		{name: "half a MAC", id: good[:len(good)-11]},
		{name: "more after the end", id: good + "A"},
		{name: "a line break", id: good[:10] + "\n" + good[11:]},
		{name: "another prefix", id: "s2" + good[2:]},
		{name: "padding", id: good + "="},
		{name: "nothing"},
		{name: "what others send", id: "1868a90c-9b3e-4f2a-8f4e-0d5c6b7a8e9f"},
		{name: "a very long one", id: "s1." + strings.Repeat("A", 10_000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			principal, at, by := tt.principal, tt.at, tt.by
			if principal == "" {
				principal = "key:anna"
			}
			if at.IsZero() {
				at = noon
			}
			if by == nil {
				by = m
			}
			if s, ok := by.Open(tt.id, principal, at); ok {
				t.Errorf("Open: got %+v, want it refused", s)
			}
		})
	}
}

func TestEveryBitOfAnIDCounts(t *testing.T) {
	t.Parallel()
	m := mint(t, older)
	good := m.Make("key:anna", session.Session{Version: "2025-11-25", Capabilities: session.Sample, Expires: noon.Add(time.Hour), Client: "v1/1.32"})
	for i := range len(good) {
		for _, c := range []byte("A0_.") {
			if bad := good[:i] + string(c) + good[i+1:]; bad != good {
				if s, ok := m.Open(bad, "key:anna", noon); ok {
					t.Errorf("with %q at %d: got %+v, want it refused", c, i, s)
				}
			}
		}
	}
}

func TestAnOlderKeyStillVerifies(t *testing.T) {
	t.Parallel()
	id := mint(t, older).Make("key:anna", session.Session{Version: "2025-11-25", Expires: noon.Add(time.Hour)})
	if _, ok := mint(t, newer, older).Open(id, "key:anna", noon); !ok {
		t.Error("an id under the older key is not taken after a rotation")
	}
	id = mint(t, newer, older).Make("key:anna", session.Session{Version: "2025-11-25", Expires: noon.Add(time.Hour)})
	if _, ok := mint(t, older).Open(id, "key:anna", noon); ok {
		t.Error("the older key signs, want the first one")
	}
}

func TestNewRefusesWeakKeys(t *testing.T) {
	t.Parallel()
	for _, keys := range [][][]byte{nil, {{}}, {older, older[:31]}} {
		if _, err := session.New(keys, "2025-11-25"); err == nil {
			t.Errorf("New with keys of %d: got no error", len(keys))
		}
	}
	if _, err := session.New([][]byte{older}); err == nil {
		t.Error("New without versions: got no error")
	}
}

// Whatever is opened was made here: no other text opens, and none panics.
func FuzzOpen(f *testing.F) {
	m := mint(f, newer, older)
	good := m.Make("key:anna", session.Session{Version: "2025-11-25", Capabilities: session.ElicitForm, Expires: noon.Add(time.Hour)})
	f.Add(good, "key:anna")
	f.Add(mint(f, older).Make("key:anna", session.Session{Version: "2025-06-18", Expires: noon.Add(time.Hour)}), "key:anna")
	f.Add(good[:40], "key:bob")
	f.Add("s1..", "")
	f.Add("s1.AAAA.AAAA", "key:anna")
	f.Fuzz(func(t *testing.T, id, principal string) {
		s, ok := m.Open(id, principal, noon)
		if !ok {
			return
		}
		if principal != "key:anna" {
			t.Errorf("%q opens for %q", id, principal)
		}
		if len(s.ID) != 22 || s.Version == "" || !noon.Before(s.Expires) {
			t.Errorf("%q: got %+v", id, s)
		}
	})
}
