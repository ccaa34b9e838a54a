package provider_test

import (
	"bytes"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/provider"
)

func TestState(t *testing.T) {
	t.Parallel()
	id := provider.NewReplicaID("ev.1")
	if id == provider.NewReplicaID("ev.2") {
		t.Error("two replicas have the same id")
	}
	largest := bytes.Repeat([]byte("x"), provider.MaxState)
	for _, state := range [][]byte{{0}, []byte("abc"), largest} {
		wrapped := provider.WrapState(id, state)
		if len(wrapped) > 65536 {
			t.Errorf("%d bytes do not fit", len(wrapped))
		}
		got, inner, err := provider.UnwrapState(wrapped)
		if err != nil || got != id || !bytes.Equal(inner, state) {
			t.Errorf("UnwrapState = %x, %q, %v", got, inner, err)
		}
	}
	for _, bad := range [][]byte{nil, {1}, provider.WrapState(id, nil), provider.WrapState(id, append(largest, 'x')), append([]byte{2}, provider.WrapState(id, []byte("x"))[1:]...)} {
		if _, _, err := provider.UnwrapState(bad); err == nil {
			t.Errorf("UnwrapState(%.40x…): no error", bad)
		}
	}
}

// A state is either what was given out, byte for byte, or none.
func FuzzUnwrapState(f *testing.F) {
	f.Add(provider.WrapState(provider.NewReplicaID("ev.1"), []byte("abc")))
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		id, state, err := provider.UnwrapState(raw)
		if err == nil && (len(state) == 0 || !bytes.Equal(provider.WrapState(id, state), raw)) {
			t.Errorf("UnwrapState(%x) = %x, %x", raw, id, state)
		}
	})
}
