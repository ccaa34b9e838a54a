package edge

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// awayQuota takes nothing before a time.
type awayQuota struct {
	quotav1.QuotaServiceClient
	back time.Time
	took map[string]int
}

func (q *awayQuota) Commit(_ context.Context, r *quotav1.CommitRequest, _ ...grpc.CallOption) (*quotav1.CommitResponse, error) {
	if time.Now().Before(q.back) {
		return nil, status.Error(codes.Unavailable, "away")
	}
	q.took[r.GetReservationId()]++
	return new(quotav1.CommitResponse), nil
}

// When quota is back what waits is settled soon, however much it is.
func TestWhatWaitsIsSettledWhenQuotaIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 3000
		c := &awayQuota{back: time.Now().Add(10 * time.Second), took: make(map[string]int)}
		q := newUnsettled(slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			q.follow(ctx, c, time.Second)
		}()
		for i := range many {
			q.add(unsettledUse{commit: &quotav1.CommitRequest{ReservationId: strconv.Itoa(i)}})
		}
		<-time.After(40 * time.Second)
		synctest.Wait()
		if len(c.took) != many {
			t.Errorf("%d of %d settled", len(c.took), many)
		}
		cancel()
		<-done
		for id, n := range c.took {
			if n != 1 {
				t.Errorf("%s was settled %d times", id, n)
			}
		}
	})
}
