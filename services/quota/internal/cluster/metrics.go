package cluster

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// tally counts what the node has met with since it was made. Plain numbers that
// are read when somebody looks cost the path of a check next to nothing.
type tally struct {
	forwarded  atomic.Int64 // checks of which another node was asked
	remembered atomic.Int64 // checks refused without a message
	granted    atomic.Int64 // checks for which grants took the place of messages
	undecided  atomic.Int64 // checks that ended with ErrUnreachable
	gained     atomic.Int64 // slots that it began to serve
	forgot     atomic.Int64 // slots of which it began to count anew because all who knew them are gone
	copyLag    metric.Float64Histogram
}

// lagBuckets are in seconds; a copy that takes longer than [overdue] is late.
var lagBuckets = metric.WithExplicitBucketBoundaries(0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1)

// observe makes the instruments. A nil meter measures nothing.
func (n *Node) observe(m metric.Meter) error {
	if m == nil {
		m = noop.Meter{}
	}
	var errs []error
	count := func(name, unit, what string, from *atomic.Int64) {
		_, err := m.Int64ObservableCounter(name, metric.WithDescription(what), metric.WithUnit(unit),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(from.Load())
				return nil
			}))
		errs = append(errs, err)
	}
	count("sallyport.quota.cluster.forwarded", "{check}", "Checks of which other nodes were asked.", &n.tally.forwarded)
	count("sallyport.quota.cluster.remembered", "{check}", "Checks refused by what another node has said before.", &n.tally.remembered)
	count("sallyport.quota.cluster.granted", "{check}", "Checks admitted out of what other nodes have granted in advance, without a message.", &n.tally.granted)
	count("sallyport.quota.cluster.undecided", "{check}", "Checks that no node could decide in time.", &n.tally.undecided)
	count("sallyport.quota.cluster.takeovers", "{slot}", "Slots that the node has begun to own.", &n.tally.gained)
	count("sallyport.quota.cluster.lost", "{slot}", "Slots whose counts began anew because all nodes that knew them were gone.", &n.tally.forgot)
	gauge := func(name, unit, what string, read func() int64) {
		_, err := m.Int64ObservableGauge(name, metric.WithDescription(what), metric.WithUnit(unit),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(read())
				return nil
			}))
		errs = append(errs, err)
	}
	gauge("sallyport.quota.cluster.epoch", "{view}", "The view that the node follows; it should be the same everywhere.", func() int64 {
		n.mu.RLock()
		defer n.mu.RUnlock()
		return int64(n.view.epoch)
	})
	gauge("sallyport.quota.cluster.slots", "{slot}", "Slots that the node serves, of 1024 in all.", n.served)
	gauge("sallyport.quota.cluster.uncopied", "{change}", "Changes, and whole slots, that the heirs do not have yet: what a crash can lose.", n.uncopied)
	gauge("sallyport.quota.cluster.lines", "{line}", "Lines to other nodes, two for each; where one is missing, NATS carries the asks or copies.", n.lines.open.Load)
	gauge("sallyport.quota.cluster.doubtful", "{slot}", "Slots that the node owns without knowing all that was counted in them.", n.doubting)
	_, err := m.Float64ObservableGauge("sallyport.quota.cluster.lease", metric.WithUnit("s"),
		metric.WithDescription("How long ago the lease was renewed; at its whole length the node stops."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			if end := n.lease.Load(); end > 0 {
				o.Observe((n.o.Now() - time.Duration(end) + time.Duration(n.leaseSpan.Load())).Seconds())
			}
			return nil
		}))
	errs = append(errs, err)
	n.tally.copyLag, err = m.Float64Histogram("sallyport.quota.cluster.copy_lag", metric.WithUnit("s"),
		metric.WithDescription("From an admission until the heir has it, of the oldest in each message."), lagBuckets)
	return errors.Join(append(errs, err)...)
}

// served counts the slots that the node serves.
func (n *Node) served() (slots int64) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for s := range n.slots {
		if n.slots[s].serving {
			slots++
		}
	}
	return slots
}

// uncopied counts what heirs have not acknowledged.
func (n *Node) uncopied() (changes int64) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, c := range n.heirs {
		changes += c.owed.Load()
		c.mu.Lock()
		waiting := int64(len(c.items) + len(c.permits))
		c.mu.Unlock()
		if c.since.Load() > 0 { // at least what is on its way
			waiting = max(waiting, 1)
		}
		changes += waiting
	}
	return changes
}
