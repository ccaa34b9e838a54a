package siphash_test

import (
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/siphash"
)

// The vectors are those of the reference implementation: key 00..0f, input of n
// bytes 00, 01, ...
func TestSumIsThatOfTheReference(t *testing.T) {
	t.Parallel()
	var seed [16]byte
	input := make([]byte, 64)
	for i := range input {
		input[i] = byte(i)
	}
	copy(seed[:], input)
	key := siphash.NewKey(seed)
	for n, want := range map[int]string{
		0: "a3817f04ba25a8e66df67214c7550293",
		1: "da87c1d86b99af44347659119b22fc45",
		2: "8177228da4a45dc7fca38bdef60affe4",
	} {
		lo, hi := key.Sum(input[:n])
		got := hex.EncodeToString(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, lo), hi))
		if got != want {
			t.Errorf("sum of %d bytes: got %s, want %s", n, got, want)
		}
	}
}

func TestSumDependsOnEveryByte(t *testing.T) {
	t.Parallel()
	key := siphash.NewKey([16]byte{1})
	input := make([]byte, 40)
	seen := map[[2]uint64]int{}
	note := func(what int, b []byte) {
		t.Helper()
		lo, hi := key.Sum(b)
		if other, ok := seen[[2]uint64{lo, hi}]; ok {
			t.Errorf("%d and %d have the same sum", what, other)
		}
		seen[[2]uint64{lo, hi}] = what
	}
	for n := range input {
		note(-n-1, input[:n])
	}
	for i := range input {
		input[i] = 1
		note(i, input)
		input[i] = 0
	}
}

func BenchmarkSum(b *testing.B) {
	key := siphash.NewKey([16]byte{1})
	input := make([]byte, 40)
	for b.Loop() {
		key.Sum(input)
	}
}
