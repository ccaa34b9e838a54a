package grant_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/grant"
)

var key = bytes.Repeat([]byte{0x42}, 32)

type keys map[string][]byte

func (k keys) Key(id string) []byte { return k[id] }

var one = keys{secret.NewKey(key).ID(): key}

// seal makes a grant as the comment of sallyport.auth.v1.Grant says.
func seal(t testing.TB, key []byte, g *authv1.Grant) []byte {
	t.Helper()
	body, err := proto.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	return sealBytes(key, body)
}

func sealBytes(key, body []byte) []byte {
	id := secret.NewKey(key).ID()
	out := append([]byte{1, byte(len(id))}, id...)
	out = append(out, body...)
	mac := hmac.New(sha256.New, key)
	mac.Write(out)
	return mac.Sum(out)
}

func sample(expires time.Time) *authv1.Grant {
	sum := sha256.Sum256([]byte("{}"))
	return &authv1.Grant{
		DecisionId: "d_01JDKZ5R9GQ0V4T4M5N6P7Q8R9", Principal: &authv1.Principal{Id: "key:7Xk2"},
		Action: authv1.Action_ACTION_TOOLS_CALL, Target: "echo", ArgumentsSha256: sum[:],
		Origin: &authv1.Origin{}, Expires: timestamppb.New(expires),
	}
}

// Auth has the same file and must write these bytes.
func TestOpenGolden(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/grant_golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	golden := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			golden[name] = value
		}
	}
	material, err := hex.DecodeString(golden["key"])
	if err != nil {
		t.Fatal(err)
	}
	if got := secret.NewKey(material).ID(); got != golden["key_id"] {
		t.Fatalf("ID = %q, want %q", got, golden["key_id"])
	}
	raw, err := hex.DecodeString(golden["grant"])
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Unix(1795560000, 500_000_000)
	g, err := grant.Open(raw, keys{golden["key_id"]: material}, expires.Add(-time.Nanosecond))
	if err != nil {
		t.Fatal(err)
	}
	if g.GetTarget() != "run_sql_query" || g.GetDecisionId() != "d_01JDKZ5R9GQ0V4T4M5N6P7Q8R9" || g.GetOrigin().GetHops() != 2 {
		t.Errorf("Open = %v", g)
	}
	if _, err := grant.Open(raw, keys{golden["key_id"]: material}, expires); !errors.Is(err, grant.ErrExpired) {
		t.Errorf("Open at the moment of expiry: %v, want %v", err, grant.ErrExpired)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	good := seal(t, key, sample(now.Add(time.Minute)))
	if _, err := grant.Open(good, one, now); err != nil {
		t.Fatal(err)
	}
	edited := func(edit func(*authv1.Grant)) []byte {
		g := sample(now.Add(time.Minute))
		edit(g)
		return seal(t, key, g)
	}
	with := func(i int, b byte) []byte {
		c := bytes.Clone(good)
		c[i] = b
		return c
	}
	tests := []struct {
		name  string
		grant []byte
		want  error
	}{
		{"nothing", nil, grant.ErrMalformed},
		{"another version", with(0, 2), grant.ErrMalformed},
		{"a key id that reaches into the MAC", with(1, 255), grant.ErrMalformed},
		{"a key nobody has", seal(t, bytes.Repeat([]byte{1}, 32), sample(now.Add(time.Minute))), grant.ErrKey},
		{"a MAC by another key under a known id", append(bytes.Clone(good[:len(good)-32]), make([]byte, 32)...), grant.ErrMAC},
		{"a byte too few", good[:len(good)-1], grant.ErrMAC},
		{"a byte too many", append(bytes.Clone(good), 0), grant.ErrMAC},
		{"too long", make([]byte, 5000), grant.ErrMalformed},
		{"expired", edited(func(g *authv1.Grant) { g.Expires = timestamppb.New(now) }), grant.ErrExpired},
		{"no expiry", edited(func(g *authv1.Grant) { g.Expires = nil }), grant.ErrMalformed},
		{"no decision", edited(func(g *authv1.Grant) { g.DecisionId = "" }), grant.ErrMalformed},
		{"nobody", edited(func(g *authv1.Grant) { g.Principal = nil }), grant.ErrMalformed},
		{"from nowhere", edited(func(g *authv1.Grant) { g.Origin = nil }), grant.ErrMalformed},
		{"a short hash", edited(func(g *authv1.Grant) { g.ArgumentsSha256 = g.ArgumentsSha256[:31] }), grant.ErrMalformed},
		{"not a message", sealBytes(key, []byte{0xff, 0xff}), grant.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := grant.Open(tt.grant, one, now)
			if !errors.Is(err, tt.want) {
				t.Errorf("Open: %v, want %v", err, tt.want)
			}
			if g != nil && !errors.Is(err, grant.ErrExpired) {
				t.Errorf("Open returns %v of a grant that is not genuine", g)
			}
		})
	}
}

// No bit of a grant can be changed.
func TestOpenNoticesEveryBit(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	good := seal(t, key, sample(now.Add(time.Minute)))
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := grant.Open(bad, one, now); err == nil {
			t.Fatalf("bit %d can be changed", i)
		}
	}
}

func FuzzOpen(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	f.Add(seal(f, key, sample(now.Add(time.Minute))))
	f.Add([]byte{1, 8})
	f.Add(append([]byte{1, 0}, make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		// Whatever it is, it must not panic; and what opens was sealed.
		g, err := grant.Open(raw, one, now)
		if err == nil && !bytes.Equal(raw[:2], []byte{1, 8}) {
			t.Errorf("Open(%x) = %v", raw, g)
		}
		// The same bytes, sealed: the message inside may be anything.
		if g, err := grant.Open(sealBytes(key, raw), one, now); err == nil && g.GetPrincipal().GetId() == "" {
			t.Errorf("Open gives a grant to nobody: %v", g)
		}
	})
}
