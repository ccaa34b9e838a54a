package keyring_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
)

func pepperKey(b byte) secret.Key { return secret.NewKey(bytes.Repeat([]byte{b}, 32)) }

// newPeppers returns a current pepper with old ones.
func newPeppers(t testing.TB, current byte, old ...byte) *apikey.Peppers {
	t.Helper()
	var keys []secret.Key
	for _, b := range old {
		keys = append(keys, pepperKey(b))
	}
	p, err := apikey.NewPeppers(pepperKey(current), nil, keys)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// record returns a record of a new key with the text that opens it.
func record(peppers *apikey.Peppers) (*keyring.Record, string) {
	pepper := peppers.Current()
	token := apikey.Mint("dev")
	sum := pepper.Sum(token)
	return &keyring.Record{
		ID: token.ID, Env: "dev", Name: "a", Tenant: "default", Roles: []string{"admin"},
		Created: time.Now().UTC(), Expires: time.Now().UTC().Add(time.Hour),
		Secrets: []keyring.Secret{{Pepper: pepper.ID(), Sum: sum[:]}},
	}, token.Reveal()
}

func encode(t testing.TB, r *keyring.Record, peppers *apikey.Peppers) []byte {
	t.Helper()
	text, err := keyring.Encode(r, peppers.Current())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestOrderOfNews checks which of two revisions of a key counts: the active one
// is applied first, and then one that is revoked, or the other way round.
func TestOrderOfNews(t *testing.T) {
	t.Parallel()
	type news struct {
		revision uint64
		revoked  bool
		own      bool // written by this process, and not told by the watch
		broken   bool // the watch breaks before
		deleted  bool
	}
	const (
		good    = auditv1.Reason_REASON_UNSPECIFIED
		revoked = auditv1.Reason_REASON_CREDENTIAL_REVOKED
		unknown = auditv1.Reason_REASON_CREDENTIAL_UNKNOWN
	)
	tests := []struct {
		name string
		news []news
		want auditv1.Reason
	}{
		{"a newer revision counts", []news{{revision: 1}, {revision: 2, revoked: true}}, revoked},
		{"an own revision counts before the watch tells of an older one", []news{{revision: 2, revoked: true, own: true}, {revision: 1}}, revoked},
		{"an own revision that is older does not count", []news{{revision: 2, revoked: true}, {revision: 1, own: true}}, revoked},
		{"the store counts after a break, even with an older revision", []news{{revision: 9}, {revision: 1, revoked: true, broken: true}}, revoked},
		{"a key that is gone is unknown", []news{{revision: 1}, {deleted: true}}, unknown},
		{"a key that comes back is known", []news{{revision: 1}, {revision: 2, deleted: true}, {revision: 3}}, good},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			peppers := newPeppers(t, 7)
			ring := keyring.New("dev", peppers, time.Minute)
			r, text := record(peppers)
			ring.Synced(true)
			for _, n := range tt.news {
				next := *r
				if n.revoked {
					next.Revoked = time.Now().UTC()
				}
				if n.broken {
					ring.Synced(false)
				}
				switch {
				case n.own:
					ring.Put(&next, n.revision)
				default:
					if err := ring.Apply(r.ID, encode(t, &next, peppers), n.revision, n.deleted); err != nil {
						t.Fatal(err)
					}
				}
				if n.broken {
					ring.Synced(true)
				}
			}
			if _, got, _, err := ring.Verify(text, "", time.Now()); err != nil || got != tt.want {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestRecordOfAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	peppers := newPeppers(t, 7)
	ring := keyring.New("dev", peppers, time.Minute)
	ring.Synced(true)
	r, text := record(peppers)
	if err := ring.Apply("0123456789", encode(t, r, peppers), 1, false); err == nil {
		t.Error("got no error for a record under another id")
	}
	if k, _, _, err := ring.Verify(text, "", time.Now()); err != nil || k != nil {
		t.Errorf("got %v, %v; want nothing", k, err)
	}
}

func TestUseThatIsKnownBeforeTheKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		peppers := newPeppers(t, 7)
		ring := keyring.New("dev", peppers, time.Minute)
		r, _ := record(peppers)
		if err := ring.Apply("use."+r.ID, []byte(`{"time":"1999-12-31T00:00:00Z","tool":"echo"}`), 1, false); err != nil {
			t.Fatal(err)
		}
		if err := ring.Apply(r.ID, encode(t, r, peppers), 2, false); err != nil {
			t.Fatal(err)
		}
		k := ring.Get(r.ID)
		if got := k.Describe(time.Now()).GetLastUse().GetTool(); got != "echo" {
			t.Errorf("got last use of %q, want echo", got)
		}
		k.Touch(time.Now(), "other", "")
		if err := ring.Apply("use."+r.ID, []byte(`{"time":"1999-12-31T00:00:01Z","tool":"late"}`), 3, false); err != nil {
			t.Fatal(err)
		}
		if got := k.Describe(time.Now()); got.GetLastUse().GetTool() != "other" || got.GetState() != authv1.KeyState_KEY_STATE_ACTIVE {
			t.Errorf("got %v, want the newer use", got)
		}
	})
}

func FuzzDecode(f *testing.F) {
	peppers := newPeppers(f, 7)
	r, _ := record(peppers)
	f.Add(encode(f, r, peppers))
	f.Add([]byte(`{"v":1,"pepper":"","seal":"","record":{}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := keyring.Decode(text, peppers)
		if err != nil {
			return
		}
		if again, err := keyring.Decode(encode(t, r, peppers), peppers); err != nil || again.ID != r.ID {
			t.Errorf("a record does not survive: %v, %v", again, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	peppers := newPeppers(b, 7)
	ring := keyring.New("dev", peppers, time.Hour)
	ring.Synced(true)
	r, text := record(peppers)
	ring.Put(r, 1)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if k, _, _, err := ring.Verify(text, "", now); k == nil || err != nil {
			b.Fatal(err)
		}
	}
}

// What counts as a sign of life is that the watch has come to what was just
// written, and how old it is when it has.
func TestSignsOfLife(t *testing.T) {
	t.Parallel()
	type step struct {
		name  string
		do    func(*keyring.Ring)
		wait  time.Duration
		stale bool
	}
	begun := func(r *keyring.Ring, revision uint64) { r.Wrote(revision, time.Now()) }
	tests := []struct {
		name  string
		steps []step
	}{
		{"the watch tells what was written", []step{
			{"half a minute passes", nil, 30 * time.Second, false},
			{"a write", func(r *keyring.Ring) { begun(r, 5); r.Seen(5) }, 59 * time.Second, false},
			{"nothing more", nil, 2 * time.Second, true},
			{"another write", func(r *keyring.Ring) { begun(r, 6); r.Seen(6) }, 0, false},
		}},
		{"the watch is faster than the answer", []step{
			{"a write", func(r *keyring.Ring) { r.Seen(5); begun(r, 5) }, 30 * time.Second, false},
			{"another", func(r *keyring.Ring) { r.Seen(8); begun(r, 7) }, 59 * time.Second, false},
		}},
		{"the store answers and the watch is silent", []step{
			{"a write", func(r *keyring.Ring) { begun(r, 5) }, 40 * time.Second, false},
			{"another", func(r *keyring.Ring) { begun(r, 6) }, 21 * time.Second, true},
		}},
		{"the watch tells of what is older", []step{
			{"a write", func(r *keyring.Ring) { begun(r, 5) }, 40 * time.Second, false},
			{"an older entry", func(r *keyring.Ring) { r.Seen(4) }, 21 * time.Second, true},
		}},
		{"the watch is late", []step{
			{"a write", func(r *keyring.Ring) { begun(r, 5) }, 50 * time.Second, false},
			{"the watch comes to it", func(r *keyring.Ring) { r.Seen(5) }, 9 * time.Second, false},
			{"a minute after the write", nil, 2 * time.Second, true},
		}},
		{"the watch broke after the write", []step{
			{"a write", func(r *keyring.Ring) { begun(r, 5); r.Synced(false) }, 50 * time.Second, false},
			{"the next watch begins with what is older", func(r *keyring.Ring) { r.Seen(4) }, 11 * time.Second, true},
			{"it has told everything", func(r *keyring.Ring) { r.Synced(true) }, 0, false},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ring := keyring.New("dev", newPeppers(t, 7), time.Minute)
				ring.Synced(true)
				for _, s := range tt.steps {
					if s.do != nil {
						s.do(ring)
					}
					time.Sleep(s.wait) // of the bubble's clock
					if stale := ring.Ready() != nil; stale != s.stale {
						t.Errorf("%s: stale is %v, want %v", s.name, stale, s.stale)
					}
				}
			})
		})
	}
}
