package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
)

func TestLedger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := bustest.Open(t, dir)
	l := b.Ledger()
	read := func(l *bus.Ledger, from uint64) (got []string, first, last uint64) {
		t.Helper()
		first, last, err := l.Read(t.Context(), from, func(sequence uint64, data []byte) error {
			got = append(got, fmt.Sprint(sequence, string(data)))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got, first, last
	}
	if got, _, last := read(l, 1); len(got) != 0 || last != 0 {
		t.Errorf("an empty ledger: got %v, last %d", got, last)
	}
	for i := range uint64(100) {
		if sequence, err := l.Append(t.Context(), i, fmt.Sprint("id", i), []byte("x")); err != nil || sequence != i+1 {
			t.Fatalf("append %d: got %d, %v", i, sequence, err)
		}
	}
	for _, last := range []uint64{0, 99, 101} {
		if _, err := l.Append(t.Context(), last, fmt.Sprint("other", last), []byte("y")); !errors.Is(err, bus.ErrConflict) {
			t.Errorf("append after %d of 100: got %v, want ErrConflict", last, err)
		}
	}
	if sequence, err := l.Append(t.Context(), 99, "id99", []byte("x")); !errors.Is(err, bus.ErrConflict) && sequence != 100 {
		t.Errorf("the last again: got %d, %v, want its sequence or ErrConflict", sequence, err)
	}
	b.Close()
	l = bustest.Open(t, dir).Ledger()
	for _, from := range []uint64{1, 50, 90, 100, 101, 200} { // streamed, and one by one
		got, first, last := read(l, from)
		if first != 1 || last != 100 || len(got) != int(max(101-int(from), 0)) || len(got) > 0 && got[0] != fmt.Sprint(from, "x") {
			t.Errorf("from %d: got %d messages, %d to %d", from, len(got), first, last)
		}
	}
}

func TestAnswerAtOnce(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	const most = 3
	var together sync.WaitGroup
	together.Add(most)
	stop, err := bus.AnswerAtOnce(b, "x", most, func(_ context.Context, q *wrapperspb.StringValue) *wrapperspb.StringValue {
		together.Done()
		together.Wait() // all are under way
		return q
	})
	if err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	for i := range most {
		asking.Go(func() {
			want := fmt.Sprint(i)
			got, err := bus.Ask[*wrapperspb.StringValue, *wrapperspb.StringValue](t.Context(), b, "x", wrapperspb.String(want))
			if err != nil || got.GetValue() != want {
				t.Errorf("got %v, %v, want %s", got, err, want)
			}
		})
	}
	asking.Wait()
	stop()
	if _, err := bus.Ask[*wrapperspb.StringValue, *wrapperspb.StringValue](t.Context(), b, "x", wrapperspb.String("y")); !errors.Is(err, bus.ErrNobody) {
		t.Errorf("after stop: got %v, want ErrNobody", err)
	}
}
