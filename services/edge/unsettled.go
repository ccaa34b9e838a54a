package edge

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// unsettledUse is a reservation that quota has not settled when it was asked to: it
// is committed, refunded, or, where it is not known whether it was made, made with the
// same id and refunded. All of that changes nothing when it is done twice.
type unsettledUse struct {
	commit  *quotav1.CommitRequest
	refund  *quotav1.RefundRequest
	reserve *quotav1.ReserveRequest
	tries   int
	due     time.Time // of the next try
}

func (u *unsettledUse) settle(ctx context.Context, c quotav1.QuotaServiceClient) error {
	if u.reserve != nil {
		resp, err := c.Reserve(ctx, u.reserve)
		if err != nil || resp.GetReservationId() == "" { // refused: then it was not made
			return err
		}
		u.reserve, u.refund = nil, &quotav1.RefundRequest{ReservationId: resp.GetReservationId(), Remember: durationpb.New(settledFor)}
	}
	var err error
	if u.commit != nil {
		_, err = c.Commit(ctx, u.commit)
	} else {
		_, err = c.Refund(ctx, u.refund)
	}
	if status.Code(err) == codes.NotFound { // it was forgotten: there is nothing to settle
		return nil
	}
	return err
}

const (
	// maxUnsettled bounds what is kept to be tried again, and maxTries how often.
	maxUnsettled, maxTries = 4096, 8
	// firstRetry is how long to wait for the next try, twice as long each time.
	firstRetry = 250 * time.Millisecond
)

// unsettled are such reservations. What is given up expires by its rule.
type unsettled struct {
	log   *slog.Logger
	queue chan unsettledUse
}

func newUnsettled(log *slog.Logger) *unsettled {
	return &unsettled{log: log, queue: make(chan unsettledUse, maxUnsettled)}
}

// add keeps one until its time has come: however many wait, after a failure of
// quota none waits for the others' times.
func (q *unsettled) add(u unsettledUse) {
	wait := firstRetry << u.tries
	u.due = time.Now().Add(wait/2 + rand.N(wait))
	select {
	case q.queue <- u:
	default:
		q.log.Error("too many reservations cannot be settled, one is left to expire")
	}
}

// follow tries again until ctx is done, and then each that is left once more.
// timeout bounds a try.
func (q *unsettled) follow(ctx context.Context, c quotav1.QuotaServiceClient, timeout time.Duration) {
	for {
		select {
		case u := <-q.queue:
			q.try(ctx, c, u, timeout)
		case <-ctx.Done():
			q.last(context.WithoutCancel(ctx), c, timeout)
			return
		}
	}
}

func (q *unsettled) try(ctx context.Context, c quotav1.QuotaServiceClient, u unsettledUse, timeout time.Duration) {
	select {
	case <-time.After(time.Until(u.due)):
	case <-ctx.Done():
		q.add(u)
		return
	}
	trying, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := u.settle(trying, c); err != nil {
		if u.tries++; u.tries < maxTries {
			q.add(u)
			return
		}
		q.log.Error("a reservation cannot be settled and is left to expire", "err", err)
	}
}

// last has one timeout for all of it.
func (q *unsettled) last(ctx context.Context, c quotav1.QuotaServiceClient, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		select {
		case u := <-q.queue:
			if err := u.settle(ctx, c); err != nil {
				q.log.Error("a reservation cannot be settled and is left to expire", "err", err)
			}
		default:
			return
		}
	}
}
