package grant_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/grant"
)

// bucket is the bucket of used grants, in memory.
type bucket struct {
	keys map[string]bool
	away error // nothing answers
}

func (b *bucket) Create(_ context.Context, _ bus.Bucket, key string, _ []byte) (uint64, error) {
	if b.away != nil {
		return 0, b.away
	}
	if b.keys[key] {
		return 0, bus.ErrExists
	}
	b.keys[key] = true
	return uint64(len(b.keys)), nil
}

func TestUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := &bucket{keys: map[string]bool{"theirs": true}}
		used := grant.NewUsed(3, shared)
		soon := time.Now().Add(10 * time.Second)
		away := errors.New("no answer")
		steps := []struct {
			name, decision string
			expires        time.Time
			wait           time.Duration
			away           error
			want           error
		}{
			{"the first use", "a", soon, 0, nil, nil},
			{"the second use", "a", soon, 0, nil, grant.ErrUsed},
			{"one that another executor has used", "theirs", soon, 0, nil, grant.ErrUsed},
			{"a use while the bus is away", "b", soon, 0, away, grant.ErrUnclaimed},
			{"the same when it is back", "b", soon, 0, nil, grant.ErrUsed},
			{"one more than can be remembered", "c", soon, 0, nil, grant.ErrFull},
			{"an expired grant", "a", soon, 10 * time.Second, nil, grant.ErrExpired},
			{"after the old ones have expired", "c", soon.Add(time.Minute), 0, nil, nil},
			{"one that lives for the longest", "d", soon.Add(bus.GrantLife), 0, nil, nil},
			{"one that lives longer than the bucket remembers", "e", soon.Add(2 * bus.GrantLife), 0, nil, grant.ErrLong},
		}
		for _, s := range steps {
			time.Sleep(s.wait) // of the bubble's clock
			shared.away = s.away
			err := used.Use(t.Context(), s.decision, s.expires)
			if !errors.Is(err, s.want) {
				t.Errorf("%s: %v, want %v", s.name, err, s.want)
			}
			if s.away != nil && !errors.Is(err, s.away) {
				t.Errorf("%s: %v does not tell of %v", s.name, err, s.away)
			}
		}
	})
}

func TestTheBucketRemembersLongerThanAnyGrantLives(t *testing.T) {
	t.Parallel()
	if bus.Grants.TTL < bus.GrantLife+bus.ClockSkew {
		t.Errorf("the bucket forgets after %v, grants live up to %v", bus.Grants.TTL, bus.GrantLife)
	}
}

func TestRevoked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		revoked := grant.NewRevoked(4)
		if revoked.Has("a") {
			t.Error("one that was never heard of counts as revoked")
		}
		revoked.Note("a")
		if !revoked.Has("a") || revoked.Has("b") {
			t.Error("it is not the one that was noted")
		}
		time.Sleep(bus.GrantLife) // of the bubble's clock
		if !revoked.Has("a") {
			t.Error("it was forgotten while grants may be left")
		}
		time.Sleep(bus.ClockSkew)
		if revoked.Has("a") {
			t.Error("it was not forgotten")
		}
		kept := 0
		for i := range 10 {
			revoked.Note(strconv.Itoa(i))
		}
		for i := range 10 {
			if revoked.Has(strconv.Itoa(i)) {
				kept++
			}
		}
		if kept != 4 || !revoked.Has("9") {
			t.Errorf("%d are remembered, want 4 with the last", kept)
		}
	})
}
