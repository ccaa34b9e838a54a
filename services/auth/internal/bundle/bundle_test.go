package bundle_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/secret"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/bundle"
)

func pepper(b byte) *apikey.Pepper {
	return apikey.NewPepper(secret.NewKey(bytes.Repeat([]byte{b}, 32)))
}

func sample() *authv1.PolicyBundle {
	return &authv1.PolicyBundle{
		Files:  []*authv1.PolicyFile{{Name: "own.cedar", Text: []byte("// text")}},
		Author: "anna",
		Time:   timestamppb.New(time.Unix(1_790_000_000, 0)),
	}
}

func encode(t testing.TB, b *authv1.PolicyBundle) []byte {
	t.Helper()
	text, err := bundle.Encode(b, pepper(1))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]*authv1.PolicyBundle{"files": sample(), "none": {Author: "anna", Time: sample().GetTime()}} {
		got, err := bundle.Decode(encode(t, want), pepper(1))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	good := encode(t, sample())
	for i := range good { // every byte counts
		changed := bytes.Clone(good)
		changed[i] ^= 1
		if _, err := bundle.Decode(changed, pepper(1)); err == nil {
			t.Errorf("byte %d changed: got no error", i)
		}
		if _, err := bundle.Decode(good[:i], pepper(1)); err == nil {
			t.Errorf("cut after %d bytes: got no error", i)
		}
	}
	if _, err := bundle.Decode(good, pepper(2)); err == nil {
		t.Error("another pepper: got no error")
	}
	if _, err := bundle.Decode(append(bytes.Clone(good), 0), pepper(1)); err == nil {
		t.Error("a byte more: got no error")
	}
	for name, b := range map[string]*authv1.PolicyBundle{
		"no time":        {Author: "anna"},
		"a time too far": {Time: &timestamppb.Timestamp{Seconds: 1 << 60}},
		"too many files": {Time: sample().GetTime(), Files: make([]*authv1.PolicyFile, 65)},
	} {
		for i := range b.GetFiles() {
			b.Files[i] = new(authv1.PolicyFile)
		}
		if _, err := bundle.Decode(encode(t, b), pepper(1)); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// FuzzDecode looks for what crashes the decoder, or is taken and was not sealed:
// whatever is taken must be what its own seal would be.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 255})
	f.Add(encode(f, sample()))
	f.Add(encode(f, &authv1.PolicyBundle{}))
	key := pepper(1)
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := bundle.Decode(text, key)
		if err != nil {
			return
		}
		if len(b.GetFiles()) > 64 || !b.GetTime().IsValid() {
			t.Errorf("took %v", b)
		}
		again, err := bundle.Encode(b, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Decode(again, key); err != nil {
			t.Errorf("does not take what it has taken: %v", err)
		}
	})
}
