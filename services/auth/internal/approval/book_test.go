package approval_test

import (
	"errors"
	"testing"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/approval"
)

// apply has the store tell of an entry.
func apply(t *testing.T, b *approval.Book, key, id string, revision uint64) {
	t.Helper()
	sealed, err := box(t, 1).Seal(key, record(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Apply(key, sealed, revision, false); err != nil {
		t.Fatal(err)
	}
}

func ids(b *approval.Book) (all string) {
	for _, e := range b.All() {
		all += e.ID() + " "
	}
	return all
}

func TestBook(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		steps func(t *testing.T, b *approval.Book)
		want  string
	}{
		{"the oldest is first", func(t *testing.T, b *approval.Book) { apply(t, b, "x", "2", 1); apply(t, b, "y", "1", 2) }, "1 2 "},
		{"a new one takes the place of the old", func(t *testing.T, b *approval.Book) { apply(t, b, "x", "1", 1); apply(t, b, "x", "2", 2) }, "2 "},
		{"news that are older are none", func(t *testing.T, b *approval.Book) {
			b.Put(&approval.Entry{Key: "x", Revision: 2, Record: record("2")})
			apply(t, b, "x", "1", 1)
		}, "2 "},
		{"a store that begins anew is believed", func(t *testing.T, b *approval.Book) {
			apply(t, b, "x", "1", 9)
			b.Synced(false)
			apply(t, b, "x", "2", 1)
		}, "2 "},
		{"what is deleted is gone", func(t *testing.T, b *approval.Book) {
			apply(t, b, "x", "1", 1)
			if err := b.Apply("x", nil, 2, true); err != nil {
				t.Error(err)
			}
		}, ""},
		{"what cannot be read is gone", func(t *testing.T, b *approval.Book) {
			apply(t, b, "x", "1", 1)
			if err := b.Apply("x", []byte("nonsense"), 2, false); !errors.Is(err, approval.ErrForeign) {
				t.Errorf("got %v", err)
			}
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := approval.NewBook(box(t, 1))
			tt.steps(t, b)
			if got := ids(b); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for _, id := range []string{"1", "2"} {
				if got := b.Find(id); (got != nil) != (tt.want == id+" " || tt.want == "1 2 ") {
					t.Errorf("Find(%s): got %v", id, got)
				}
			}
		})
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	b := approval.NewBook(box(t, 1))
	news, stop := b.Follow("1")
	heard := func() bool {
		select {
		case <-news:
			return true
		default:
			return false
		}
	}
	apply(t, b, "y", "3", 1)
	if heard() {
		t.Error("it hears of another")
	}
	apply(t, b, "x", "1", 2)
	apply(t, b, "x", "1", 3)
	if !heard() || heard() {
		t.Error("it does not hear once of what it has not looked at")
	}
	apply(t, b, "x", "2", 4)
	if !heard() {
		t.Error("it does not hear that another has taken the place")
	}
	stop()
	apply(t, b, "x", "1", 5)
	if heard() {
		t.Error("it hears after the end")
	}
	if err := b.Ready(); !errors.Is(err, approval.ErrUnknown) {
		t.Errorf("before the watch has told everything: got %v", err)
	}
	b.Synced(true)
	if err := b.Ready(); err != nil {
		t.Errorf("after: got %v", err)
	}
}
