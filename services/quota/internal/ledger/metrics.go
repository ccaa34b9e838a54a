package ledger

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// tally counts what a book has done since it was made.
type tally struct {
	booked     atomic.Int64 // entries that the stream has acknowledged
	duplicates atomic.Int64 // askings for what was booked already
	conflicts  atomic.Int64 // appends that came after another's
	saved      atomic.Int64 // when the oldest snapshot was written, in nanoseconds since 1970; 0 while one is not
	appended   metric.Float64Histogram
}

// appendBuckets are in seconds.
var appendBuckets = metric.WithExplicitBucketBoundaries(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)

// Observe makes the instruments. A nil meter measures nothing. Call it once, before
// anything else.
func (b *Book) Observe(m metric.Meter) error {
	if m == nil {
		m = noop.Meter{}
	}
	var errs []error
	count := func(name, unit, what string, from *atomic.Int64) {
		_, err := m.Int64ObservableCounter("sallyport.quota.ledger."+name, metric.WithDescription(what), metric.WithUnit(unit),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(from.Load())
				return nil
			}))
		errs = append(errs, err)
	}
	count("bookings", "{entry}", "Entries that this node has written and the ledger has acknowledged.", &b.tally.booked)
	count("duplicates", "{booking}", "Requests for what was booked already; they have had the first answer and changed nothing.", &b.tally.duplicates)
	count("conflicts", "{append}", "Appends refused because another node had written first; they are decided again.", &b.tally.conflicts)
	size := func(name, unit, what string, of func(*state) int) {
		_, err := m.Int64ObservableGauge("sallyport.quota.ledger."+name, metric.WithDescription(what), metric.WithUnit(unit),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				b.mu.RLock()
				defer b.mu.RUnlock()
				if b.state != nil {
					o.Observe(int64(of(b.state)))
				}
				return nil
			}))
		errs = append(errs, err)
	}
	size("keys", "{key}", "Keys in periods that are in memory; max_keys bounds them.", func(s *state) int { return s.balances })
	size("ids", "{booking}", "Reservations and checks that are remembered; max_bookings bounds them.", func(s *state) int { return s.records })
	age := func(name, what string, since func() time.Time) {
		_, err := m.Float64ObservableGauge("sallyport.quota.ledger."+name, metric.WithDescription(what), metric.WithUnit("s"),
			metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
				if at := since(); !at.IsZero() {
					o.Observe(time.Since(at).Seconds())
				}
				return nil
			}))
		errs = append(errs, err)
	}
	age("lag", "How long ago this node surely knew all of the ledger.", func() time.Time {
		b.mu.RLock()
		defer b.mu.RUnlock()
		if b.state == nil {
			return time.Time{}
		}
		return b.fresh
	})
	age("snapshot_age", "How long ago the oldest snapshot was known to be as the ledger, on the node that keeps them.", func() time.Time {
		at := b.tally.saved.Load()
		if at == 0 || !b.leads() {
			return time.Time{}
		}
		return time.Unix(0, at)
	})
	var err error
	b.tally.appended, err = m.Float64Histogram("sallyport.quota.ledger.append_duration", metric.WithUnit("s"),
		metric.WithDescription("From an append until the ledger's acknowledgement, which whatever it books waits for."), appendBuckets)
	return errors.Join(append(errs, err)...)
}

// Ready reports whether the ledger answers, for readiness. Run asks it every second.
// It is nil while nobody has durable quotas.
func (b *Book) Ready(context.Context) error {
	if b.o.Needed != nil && !b.o.Needed() {
		return nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	switch {
	case b.silent.Load():
		return errors.New("the ledger of durable quotas does not answer")
	case b.state == nil:
		return errors.New("the ledger of durable quotas is not read yet")
	}
	return nil
}

// answered notes whether the ledger has answered.
func (b *Book) answered(yes bool) { b.silent.Store(!yes) }
