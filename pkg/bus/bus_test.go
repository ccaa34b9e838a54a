package bus_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	edgev1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/edge/v1"
)

func TestBucketAnswersWithItsOwnErrors(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	ctx := t.Context()
	if _, err := b.Get(ctx, bus.Keys, "a"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("Get of nothing: got %v, want ErrNotFound", err)
	}
	rev, err := b.Create(ctx, bus.Keys, "a", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, bus.Keys, "a", []byte("2")); !errors.Is(err, bus.ErrExists) {
		t.Errorf("Create again: got %v, want ErrExists", err)
	}
	if _, err := b.Update(ctx, bus.Keys, "a", []byte("2"), rev); err != nil {
		t.Errorf("Update: %v", err)
	}
	if _, err := b.Update(ctx, bus.Keys, "a", []byte("3"), rev); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("Update of an old revision: got %v, want ErrConflict", err)
	}
}

func TestCurrentIsWhatWasWritten(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	ctx := t.Context()
	want := func(value string, revision uint64, wantErr error) {
		t.Helper()
		e, err := b.Current(ctx, bus.Contexts, "a")
		if string(e.Value) != value || e.Revision != revision || !errors.Is(err, wantErr) {
			t.Errorf("Current = %q at %d, %v; want %q at %d, %v", e.Value, e.Revision, err, value, revision, wantErr)
		}
	}
	want("", 0, bus.ErrNotFound)
	rev, err := b.Create(ctx, bus.Contexts, "a", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	want("1", rev, nil)
	if rev, err = b.Update(ctx, bus.Contexts, "a", []byte("2"), rev); err != nil {
		t.Fatal(err)
	}
	want("2", rev, nil)
	if err := b.Delete(ctx, bus.Contexts, "a"); err != nil {
		t.Fatal(err)
	}
	want("", 0, bus.ErrNotFound)
	if rev, err = b.Create(ctx, bus.Contexts, "a", nil); err != nil {
		t.Fatal(err)
	}
	want("", rev, nil)
}

func TestWatchTellsWhatIsThereAndWhatChanges(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	if _, err := b.Put(t.Context(), bus.Keys, "old", []byte("1")); err != nil {
		t.Fatal(err)
	}
	entries, synced := make(chan bus.Entry, 16), make(chan bool, 16)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- b.Watch(ctx, bus.Keys, func(e bus.Entry) { entries <- e }, func(ok bool) { synced <- ok })
	}()
	want := func(w bus.Entry) {
		t.Helper()
		got := <-entries
		if diff := cmp.Diff(w, got, cmpopts.IgnoreFields(bus.Entry{}, "Revision"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("entry (-want +got):\n%s", diff)
		}
	}
	want(bus.Entry{Key: "old", Value: []byte("1")})
	if !<-synced {
		t.Fatal("synced(false) before anything broke")
	}
	if _, err := b.Put(ctx, bus.Keys, "new", []byte("2")); err != nil {
		t.Fatal(err)
	}
	want(bus.Entry{Key: "new", Value: []byte("2")})
	if err := b.Delete(ctx, bus.Keys, "old"); err != nil {
		t.Fatal(err)
	}
	want(bus.Entry{Key: "old", Deleted: true})
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: got %v", err)
	}
	if <-synced {
		t.Error("synced(true) after the end")
	}
}

func TestStateSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := bustest.Open(t, dir)
	if _, err := first.Put(t.Context(), bus.Keys, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	first.Close()
	e, err := bustest.Open(t, dir).Get(t.Context(), bus.Keys, "k")
	if err != nil || string(e.Value) != "v" {
		t.Errorf("after a restart: got %q, %v", e.Value, err)
	}
}

func TestNoticeReachesASubscriber(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	got := make(chan *authv1.Key, 1)
	stop, err := bus.Subscribe(b, bus.SubjectCredentials, func(_ context.Context, k *authv1.Key) { got <- k })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := bus.Publish(t.Context(), b, bus.SubjectCredentials, &authv1.Key{Id: "abc"}); err != nil {
		t.Fatal(err)
	}
	if k := <-got; k.GetId() != "abc" {
		t.Errorf("got %v", k)
	}
}

func TestQuestionIsAnswered(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	const subject = bus.SubjectAnswers + "n1"
	question := &edgev1.ClientAnswer{Session: "s1", RequestId: "r1"}
	if _, err := bus.Ask[*edgev1.ClientAnswer, *edgev1.ClientAnswerReceipt](t.Context(), b, subject, question); !errors.Is(err, bus.ErrNobody) {
		t.Errorf("with nobody there: %v", err)
	}
	stop, err := bus.Answer(b, subject, func(_ context.Context, q *edgev1.ClientAnswer) *edgev1.ClientAnswerReceipt {
		return &edgev1.ClientAnswerReceipt{Taken: q.GetSession() == "s1"}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	receipt, err := bus.Ask[*edgev1.ClientAnswer, *edgev1.ClientAnswerReceipt](t.Context(), b, subject, question)
	if err != nil || !receipt.GetTaken() {
		t.Errorf("got %v, %v", receipt, err)
	}
}

func TestAuditStreamStoresABatchOnceAndKeepsIt(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	p := b.AuditPublisher()
	for range 2 {
		if err := p.Publish(t.Context(), []byte("batch"), "id-1"); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.AuditStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 1 {
		t.Errorf("the stream holds %d messages, want 1", info.State.Msgs)
	}
	if err := s.Purge(t.Context()); err == nil {
		t.Error("the audit stream can be purged")
	}
	if err := s.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("an audit message can be deleted")
	}
}

func TestConfigNamesEveryMistake(t *testing.T) {
	t.Parallel()
	c := bus.Config{Embedded: true, URL: "::", Listen: "x", Sync: "often", Replicas: 9}
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"bus: embedded and url", "bus.url", "bus.listen", "bus.sync", "bus.replicas"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Validate does not name %s: %v", want, err)
		}
	}
}
