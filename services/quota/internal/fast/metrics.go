package fast

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// tally counts what the node has met with since it was made.
type tally struct {
	told     atomic.Int64 // frames that were sent
	received atomic.Int64 // frames with counts
	synced   atomic.Int64
	dropped  atomic.Int64 // counts for which there was no room
	excess   atomic.Int64 // units beyond limits, as this node found them
	lags     peak         // µs
	lag      metric.Float64Histogram
}

// lagBuckets are in seconds.
var lagBuckets = metric.WithExplicitBucketBoundaries(0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1)

func (t *tally) lagged(now, lag time.Duration) {
	t.lags.add(now, uint32(min(lag/time.Microsecond, 1<<31)))
	t.lag.Record(context.Background(), lag.Seconds())
}

// lagMost is the longest lag of the last minute.
func (t *tally) lagMost(now time.Duration) time.Duration {
	return time.Duration(t.lags.most(now)) * time.Microsecond
}

func (t *tally) exceeded(now, before uint64) {
	if now > before {
		t.excess.Add(int64(now - before))
	}
}

// observe makes the instruments. A nil meter measures nothing.
func (n *Node) observe(m metric.Meter) error {
	if m == nil {
		m = noop.Meter{}
	}
	var errs []error
	for _, c := range []struct {
		name, unit, what string
		from             *atomic.Int64
	}{
		{"sallyport.quota.fast.sent", "{message}", "Messages in which the node has told others what it admitted, or that nothing is missing.", &n.tally.told},
		{"sallyport.quota.fast.received", "{message}", "Messages that told what others have admitted.", &n.tally.received},
		{"sallyport.quota.fast.syncs", "{sync}", "How often another node was asked for what was missed.", &n.tally.synced},
		{"sallyport.quota.fast.dropped", "{count}", "Counts of others for which there was no memory.", &n.tally.dropped},
		{"sallyport.quota.fast.excess", "{unit}", "What nodes together have admitted beyond limits before they heard of each other, as this node found it.", &n.tally.excess},
	} {
		_, err := m.Int64ObservableCounter(c.name, metric.WithDescription(c.what), metric.WithUnit(c.unit),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(c.from.Load())
				return nil
			}))
		errs = append(errs, err)
	}
	_, err := m.Int64ObservableGauge("sallyport.quota.fast.silent", metric.WithUnit("{node}"),
		metric.WithDescription("Members of which nothing complete was heard in time; with any, answers are degraded."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(n.silent(n.o.Now())))
			return nil
		}))
	errs = append(errs, err)
	_, err = m.Int64ObservableGauge("sallyport.quota.fast.keys", metric.WithUnit("{key}"),
		metric.WithDescription("Counters of fast rules in memory."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			sum := 0
			for _, keys := range n.Keys() {
				sum += keys
			}
			o.Observe(int64(sum))
			return nil
		}))
	errs = append(errs, err)
	n.tally.lag, err = m.Float64Histogram("sallyport.quota.fast.lag", metric.WithUnit("s"),
		metric.WithDescription("From an admission until this node knew of it, of the oldest in each message, less the shortest time on the way."), lagBuckets)
	return errors.Join(append(errs, err)...)
}

// silent counts the members that are silent.
func (n *Node) silent(now time.Duration) (count int) {
	_, all := n.o.Members()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range all {
		p := n.member(id)
		if id != n.self && (p == nil || !p.gone && now >= p.fresh+n.o.Config.Silence) {
			count++
		}
	}
	return count
}
