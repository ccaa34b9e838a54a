package contexts_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/alloctest"
	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/taint"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/contexts"
)

type keys map[string][]byte

func (k keys) Key(id string) []byte { return k[id] }

var known = keys{"one": []byte("a key of the test, 32 bytes long"), "two": []byte("another key of it, 32 bytes long")}

// counting is a bucket that counts writes and can be held up.
type counting struct {
	*bus.Bus
	writes atomic.Int64
	hold   chan struct{} // nil: does not hold
}

func (c *counting) Create(ctx context.Context, b bus.Bucket, key string, value []byte) (uint64, error) {
	c.writes.Add(1)
	if c.hold != nil {
		<-c.hold
	}
	return c.Bus.Create(ctx, b, key, value)
}

func (c *counting) Update(ctx context.Context, b bus.Bucket, key string, value []byte, revision uint64) (uint64, error) {
	c.writes.Add(1)
	return c.Bus.Update(ctx, b, key, value, revision)
}

func distrust(value string) func(*taint.Record) bool {
	return func(r *taint.Record) bool {
		news := r.See(taint.NewLabel("mail", "default", &toolv1.Tool{}, time.Now()))
		return r.Distrust(value) || news
	}
}

// stored is what auth would read.
func stored(t *testing.T, b *bus.Bus, name string) *taint.Record {
	t.Helper()
	e, err := b.Current(t.Context(), bus.Contexts, name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := taint.Open(name, e.Value, known.Key(taint.KeyID(e.Value)), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Several executors note things of one context at once, and none is lost.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	const books, notes = 3, 40
	var wg sync.WaitGroup
	for i := range books {
		book := contexts.NewBook(b, known, time.Minute)
		for j := range notes {
			wg.Go(func() {
				if err := book.Note(t.Context(), "one", contexts.Change{Name: "n", Make: distrust(fmt.Sprintf("host:%d-%d.example", i, j))}); err != nil {
					t.Errorf("Note: %v", err)
				}
				// What Note has returned for is in the store.
				arguments := fmt.Sprintf(`{"a":"https://%d-%d.example"}`, i, j)
				if got, err := stored(t, b, "n").Suspects([]byte(arguments)); err != nil || len(got) != 1 {
					t.Errorf("it is not in the store: %q, %v", got, err)
				}
			})
		}
	}
	wg.Wait()
}

// Many notes at once are few writes.
func TestNotesAreWrittenTogether(t *testing.T) {
	t.Parallel()
	b := &counting{Bus: bustest.New(t), hold: make(chan struct{})}
	book := contexts.NewBook(b, known, time.Minute)
	const notes = 100
	var wg sync.WaitGroup
	var noted atomic.Int64
	for i := range notes {
		wg.Go(func() {
			change := distrust(fmt.Sprintf("host:%d.example", i))
			if err := book.Note(t.Context(), "one", contexts.Change{Name: "n", Make: func(r *taint.Record) bool { noted.Add(1); return change(r) }}); err != nil {
				t.Errorf("Note: %v", err)
			}
		})
	}
	close(b.hold)
	wg.Wait()
	if n := b.writes.Load(); n >= notes {
		t.Errorf("%d notes took %d writes", notes, n)
	}
	// What is there is not written again, and not read either within the grain.
	before := b.writes.Load()
	for range 10 {
		if err := book.Note(t.Context(), "one", contexts.Change{Name: "n", Make: distrust("host:7.example")}); err != nil {
			t.Error(err)
		}
	}
	if n := b.writes.Load() - before; n != 0 {
		t.Errorf("%d writes of what is known", n)
	}
}

// Changes of two records at once are both in the store, whoever works with the same two
// in another order, and cost little once they are.
func TestTwoRecordsAtOnce(t *testing.T) {
	b := &counting{Bus: bustest.New(t)}
	book := contexts.NewBook(b, known, time.Minute)
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			value := fmt.Sprintf("host:%d.example", i)
			both := []contexts.Change{{Name: "n", Make: distrust(value)}, {Name: "m", Make: distrust(value)}}
			if i%2 == 0 {
				slices.Reverse(both)
			}
			if err := book.Note(t.Context(), "one", both...); err != nil {
				t.Errorf("Note: %v", err)
			}
			for _, c := range both {
				arguments := fmt.Sprintf(`{"a":"https://%d.example"}`, i)
				if got, err := stored(t, b.Bus, c.Name).Suspects([]byte(arguments)); err != nil || len(got) != 1 {
					t.Errorf("%s has not %s: %q, %v", c.Name, value, got, err)
				}
			}
		})
	}
	wg.Wait()
	before, nothing := b.writes.Load(), func(*taint.Record) bool { return false }
	least := alloctest.Least(func() {
		if err := book.Note(t.Context(), "one", contexts.Change{Name: "n", Make: nothing}, contexts.Change{Name: "m", Make: nothing}); err != nil {
			t.Error(err)
		}
	})
	if n := b.writes.Load() - before; n != 0 || least > 2 {
		t.Errorf("no news took %d writes and %v allocations", n, least)
	}
}

// A record that cannot be read counts as one that has seen everything, and stays so
// (fails closed). A key that is replaced makes no record such a one.
func TestWhatCannotBeReadIsSuspect(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	if _, err := b.Put(t.Context(), bus.Contexts, "n", []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	book := contexts.NewBook(b, known, time.Minute)
	if err := book.Note(t.Context(), "one", contexts.Change{Name: "n", Make: func(*taint.Record) bool { return false }}); err != nil {
		t.Fatal(err)
	}
	if got, err := stored(t, b, "n").Suspects([]byte(`{"a":"x"}`)); err != nil || len(got) != 1 {
		t.Errorf("Suspects = %q, %v; want all", got, err)
	}
	if err := book.Note(t.Context(), "one", contexts.Change{Name: "m", Make: distrust("host:a.example")}); err != nil {
		t.Fatal(err)
	}
	if err := book.Note(t.Context(), "two", contexts.Change{Name: "m", Make: distrust("host:a.example")}); err != nil {
		t.Fatal(err)
	}
	e, err := b.Current(t.Context(), bus.Contexts, "m")
	if err != nil || taint.KeyID(e.Value) != "two" {
		t.Errorf("sealed with %q, %v; want the new key", taint.KeyID(e.Value), err)
	}
	if got, err := stored(t, b, "m").Suspects([]byte(`{"a":"x","b":"https://a.example"}`)); err != nil || len(got) != 1 || got[0] != "b" {
		t.Errorf("Suspects = %q, %v; want what it was", got, err)
	}
}

// failing is a bucket whose writes fail, once they are to.
type failing struct {
	*bus.Bus
	fail atomic.Bool
}

var errFull = errors.New("full")

func (f *failing) Update(ctx context.Context, b bus.Bucket, key string, value []byte, revision uint64) (uint64, error) {
	if f.fail.Load() {
		return 0, errFull
	}
	return f.Bus.Update(ctx, b, key, value, revision)
}

// What could not be written is news the next time too.
func TestWhatFailedIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := &failing{Bus: bustest.New(t)}
	book := contexts.NewBook(b, known, time.Minute)
	if err := book.Note(t.Context(), "one", contexts.Change{Name: "n", Make: distrust("host:a.example")}); err != nil {
		t.Fatal(err)
	}
	b.fail.Store(true)
	for range 3 {
		if err := book.Note(t.Context(), "one", contexts.Change{Name: "n", Make: distrust("host:b.example")}); !errors.Is(err, errFull) {
			t.Errorf("Note = %v, want %v", err, errFull)
		}
	}
	b.fail.Store(false)
	if err := book.Note(t.Context(), "one", contexts.Change{Name: "n", Make: distrust("host:b.example")}); err != nil {
		t.Fatal(err)
	}
	if got, err := stored(t, b.Bus, "n").Suspects([]byte(`{"a":"https://a.example","b":"https://b.example"}`)); err != nil || len(got) != 2 {
		t.Errorf("Suspects = %q, %v", got, err)
	}
}

// Who goes away does not take the others' write with him.
func TestWhoWaitsMayGoAway(t *testing.T) {
	t.Parallel()
	b := &counting{Bus: bustest.New(t), hold: make(chan struct{})}
	book := contexts.NewBook(b, known, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	first := make(chan error, 1)
	go func() { first <- book.Note(ctx, "one", contexts.Change{Name: "n", Make: distrust("host:a.example")}) }()
	close(b.hold)
	if err := <-first; err != nil {
		t.Errorf("Note = %v", err)
	}
	if got, err := stored(t, b.Bus, "n").Suspects([]byte(`{"a":"https://a.example"}`)); err != nil || len(got) != 1 {
		t.Errorf("Suspects = %q, %v", got, err)
	}
}
