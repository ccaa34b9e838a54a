package audit_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
)

func TestWhatWaitsWhileABatchIsOnItsWayGoesIntoTheNextInOrder(t *testing.T) {
	t.Parallel()
	s := &stream{attempts: make(chan struct{}), answers: make(chan error)}
	r := newRecorder(t, s, audit.DefaultConfig())
	stop := start(t, r)

	record := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := r.Record(t.Context(), event(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	record("a")
	<-s.attempts
	record("b", "c", "d")
	s.answers <- nil
	<-s.attempts
	record("e")
	s.answers <- nil
	<-s.attempts
	s.answers <- nil
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	var got [][]string
	for _, b := range s.batches(t) {
		got = append(got, targets(b))
	}
	want := [][]string{{"a"}, {"b", "c", "d"}, {"e"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestBatchesOfAProducerFormAChain(t *testing.T) {
	t.Parallel()
	s := &stream{}
	r := newRecorder(t, s, audit.DefaultConfig())
	stop := start(t, r)
	for range 3 {
		if err := r.Commit(t.Context(), event("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	var previous []byte
	for i, b := range s.batches(t) {
		if got, want := b.GetSequence(), uint64(i+1); got != want {
			t.Errorf("batch %d: got sequence %d, want %d", i, got, want)
		}
		if !slices.Equal(b.GetPrevious(), previous) {
			t.Errorf("batch %d: got previous %x, want %x", i, b.GetPrevious(), previous)
		}
		if !strings.HasPrefix(b.GetProducer(), "executor/n1/") || b.GetProducer() != s.batches(t)[0].GetProducer() {
			t.Errorf("batch %d: got producer %q, want executor/n1/ and the same start each time", i, b.GetProducer())
		}
		sum := sha256.Sum256(s.bytes[i])
		previous = sum[:]
	}
	if slices.Sort(s.ids); len(slices.Compact(s.ids)) != 3 {
		t.Errorf("got ids %q, want three different ones", s.ids)
	}
}

func TestARetryKeepsIDAndBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stream{answers: make(chan error, 4)}
		for range 3 {
			s.answers <- errors.New("no responders")
		}
		s.answers <- nil
		r := newRecorder(t, s, audit.DefaultConfig())
		stop := start(t, r)
		begin := time.Now()
		if err := r.Commit(t.Context(), event("x")); err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if len(s.bytes) != 4 || s.refused != 3 {
			t.Fatalf("got %d attempts, %d of them refused, want 4 and 3", len(s.bytes), s.refused)
		}
		for i := range s.bytes {
			if s.ids[i] != s.ids[0] || !slices.Equal(s.bytes[i], s.bytes[0]) {
				t.Errorf("attempt %d differs from the first", i)
			}
		}
		// 100, 200 and 400 ms, of each at least a half.
		if waited := time.Since(begin); waited < 350*time.Millisecond || waited > 700*time.Millisecond {
			t.Errorf("waited %v between attempts, want 350ms to 700ms", waited)
		}
	})
}

func TestAnAttemptThatHangsIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stream{answers: make(chan error)}
		r := newRecorder(t, s, audit.DefaultConfig())
		stop := start(t, r)
		if err := r.Record(t.Context(), event("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(audit.DefaultConfig().PublishTimeout + time.Second) // in the bubble
		s.answers <- nil
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if len(s.ids) != 2 || s.ids[0] != s.ids[1] {
			t.Errorf("got attempts %q, want two with the same id", s.ids)
		}
	})
}

func TestRunDrainsTheQueueWhenItIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stream{attempts: make(chan struct{}), answers: make(chan error)}
		r := newRecorder(t, s, audit.DefaultConfig())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		for i := range audit.MaxBatchEvents + 1 {
			if err := r.Record(t.Context(), event(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				<-s.attempts
			}
		}
		cancel()
		s.answers <- nil
		<-s.attempts
		s.answers <- nil
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		b := s.batches(t)
		if len(b) != 2 || len(b[0].GetEvents()) != 1 || len(b[1].GetEvents()) != audit.MaxBatchEvents {
			t.Errorf("got %d batches, want one event and %d more", len(b), audit.MaxBatchEvents)
		}
		wantRefusal(t, r.Record(t.Context(), event("late")), audit.ErrClosed)
	})
}

func TestRunGivesUpDrainingInTheEndAndSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stream{answers: make(chan error)}
		r := newRecorder(t, s, audit.DefaultConfig())
		stop := start(t, r)
		committed := make(chan error, 1)
		go func() { committed <- r.Commit(t.Context(), event("a")) }()
		synctest.Wait()
		if err := r.Record(t.Context(), event("b")); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err := stop()
		if err == nil || !strings.Contains(err.Error(), "left 2 events behind") {
			t.Errorf("Run: got %v, want it to count two events left behind", err)
		}
		if took, want := time.Since(begin), audit.DefaultConfig().DrainTimeout; took < want || took > want+time.Second {
			t.Errorf("Run drained for %v, want %v", took, want)
		}
		wantRefusal(t, <-committed, audit.ErrUnacknowledged)
		wantRefusal(t, r.Record(t.Context(), event("late")), audit.ErrClosed)
	})
}

func TestABatchHasAtMostSoManyEventsAndBytes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		events  int
		shape   string
		batches int
	}{
		{"1024 events", 2 * audit.MaxBatchEvents, "", 2},
		{"512 KiB", 400, strings.Repeat("s", 2048), 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &stream{attempts: make(chan struct{}), answers: make(chan error)}
			r := newRecorder(t, s, audit.DefaultConfig())
			stop := start(t, r)
			for i := range tt.events + 1 {
				e := event("x")
				e.GetIntent().Arguments = audit.Arguments(make([]byte, 32), tt.shape)
				if err := r.Record(t.Context(), e); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					<-s.attempts
				}
			}
			s.answers <- nil
			for range tt.batches {
				<-s.attempts
				s.answers <- nil
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			published := 0
			for i, b := range s.batches(t)[1:] {
				events, size := len(b.GetEvents()), len(s.bytes[i+1])
				published += events
				if events > audit.MaxBatchEvents || size > audit.MaxBatchBytes+256 {
					t.Errorf("batch %d has %d events in %d bytes", i, events, size)
				}
				if i == 0 && events < audit.MaxBatchEvents && size < audit.MaxBatchBytes-3000 {
					t.Errorf("the first batch has only %d events in %d bytes", events, size)
				}
			}
			if published != tt.events {
				t.Errorf("published %d events, want %d", published, tt.events)
			}
		})
	}
}
