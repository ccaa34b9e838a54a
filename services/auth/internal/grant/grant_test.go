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
	"github.com/sallyport-mcp/sallyport/services/auth/internal/grant"
)

var key = bytes.Repeat([]byte{0x42}, 32)

// open reads a grant as the executor does: by the comment in the proto file,
// without any code of this service.
func open(sealed, key []byte) (*authv1.Grant, bool) {
	if len(sealed) < 2+32 || sealed[0] != 1 {
		return nil, false
	}
	body, sum := sealed[:len(sealed)-32], sealed[len(sealed)-32:]
	h := hmac.New(sha256.New, key)
	h.Write(body)
	if !hmac.Equal(sum, h.Sum(nil)) {
		return nil, false
	}
	id := int(body[1])
	if len(body) < 2+id {
		return nil, false
	}
	g := new(authv1.Grant)
	if err := proto.Unmarshal(body[2+id:], g); err != nil {
		return nil, false
	}
	return g, true
}

func sample() *authv1.Grant {
	sum := sha256.Sum256([]byte("{}"))
	return &authv1.Grant{
		DecisionId: "d_01JDKZ5R9GQ0V4T4M5N6P7Q8R9",
		Principal: &authv1.Principal{
			Id: "key:7Xk2abcdef", CredentialId: "7Xk2abcdef", Tenant: "default", Roles: []string{"analyst", "intern"},
		},
		Action:          authv1.Action_ACTION_TOOLS_CALL,
		Target:          "run_sql_query",
		ArgumentsSha256: sum[:],
		Origin: &authv1.Origin{
			Address: "192.0.2.7", Client: "test/1.0", ContextId: "c1",
			ContextSource: authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT, Hops: 2,
		},
		Expires:    timestamppb.New(time.Unix(1795560000, 500_000_000)),
		ToolDigest: bytes.Repeat([]byte{2}, 32),
	}
}

func TestGrantIsTheOneInTheGoldenFile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../testdata/grant_golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	golden := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			golden[name] = value
		}
	}
	material, err := hex.DecodeString(golden["key"])
	if err != nil {
		t.Fatal(err)
	}
	if id := secret.NewKey(material).ID(); id != golden["key_id"] {
		t.Errorf("got key id %s, want %s", id, golden["key_id"])
	}
	sealed, err := grant.NewSealer(secret.NewKey(material)).Seal(sample())
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(sealed); got != golden["grant"] {
		t.Errorf("got  %s\nwant %s", got, golden["grant"])
	}
}

func TestSealedGrantOpens(t *testing.T) {
	t.Parallel()
	sealer := grant.NewSealer(secret.NewKey(key))
	for range 3 { // the second time on a used MAC
		sealed, err := sealer.Seal(sample())
		if err != nil {
			t.Fatal(err)
		}
		got, ok := open(sealed, key)
		if !ok || !proto.Equal(got, sample()) {
			t.Fatalf("got %v, %v; want %v", got, ok, sample())
		}
		if id := secret.NewKey(key).ID(); string(sealed[2:10]) != id {
			t.Errorf("got key id %q, want %q", sealed[2:10], id)
		}
	}
}

func TestForgedGrantDoesNotOpen(t *testing.T) {
	t.Parallel()
	sealed, err := grant.NewSealer(secret.NewKey(key)).Seal(sample())
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(sealed) * 8 {
		forged := bytes.Clone(sealed)
		forged[i/8] ^= 1 << (i % 8)
		if _, ok := open(forged, key); ok {
			t.Errorf("a grant with bit %d flipped opens", i)
		}
	}
	for n := range sealed {
		if _, ok := open(sealed[:n], key); ok {
			t.Errorf("a grant cut to %d bytes opens", n)
		}
	}
	if _, ok := open(sealed, bytes.Repeat([]byte{0x43}, 32)); ok {
		t.Error("a grant of another key opens")
	}
}

func TestGrantThatWouldNotFitIsNotMade(t *testing.T) {
	t.Parallel()
	g := sample()
	g.Target = strings.Repeat("x", 4096)
	if _, err := grant.NewSealer(secret.NewKey(key)).Seal(g); !errors.Is(err, grant.ErrTooLong) {
		t.Errorf("got error %v, want %v", err, grant.ErrTooLong)
	}
}

func BenchmarkSeal(b *testing.B) {
	sealer, g := grant.NewSealer(secret.NewKey(key)), sample()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sealer.Seal(g); err != nil {
			b.Fatal(err)
		}
	}
}
