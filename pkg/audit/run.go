package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Pauses between attempts to publish the same batch.
const (
	minPause = 100 * time.Millisecond
	maxPause = 2 * time.Second
)

// chain makes batches of parcels, each bound to the one before.
type chain struct {
	producer string
	start    string // distinguishes this chain from those of earlier processes
	sequence uint64
	previous []byte // SHA-256 of the last batch; empty before the first
}

func newChain(service, node string) chain {
	start := NewID()
	// The rule is 128 bytes for the whole. The service is at most 64.
	node = clipped(node, 128-len(service)-len(start)-len("//"))
	return chain{producer: service + "/" + node + "/" + start, start: start}
}

// link returns the next batch and the id under which it is published.
func (c *chain) link(p *parcel) (batch []byte, id string) {
	c.sequence++
	batch = make([]byte, 0, len(c.producer)+len(p.body)+64)
	batch = protowire.AppendTag(batch, batchProducer, protowire.BytesType)
	batch = protowire.AppendString(batch, c.producer)
	batch = protowire.AppendTag(batch, batchSequence, protowire.VarintType)
	batch = protowire.AppendVarint(batch, c.sequence)
	if len(c.previous) > 0 {
		batch = protowire.AppendTag(batch, batchPrevious, protowire.BytesType)
		batch = protowire.AppendBytes(batch, c.previous)
	}
	batch = append(batch, p.body...)
	sum := sha256.Sum256(batch)
	c.previous = sum[:]
	return batch, c.start + "." + strconv.FormatUint(c.sequence, 10)
}

// Run publishes what is recorded until ctx ends, and then what is still queued,
// for at most Config.DrainTimeout. It returns nil when nothing was left behind.
// It may be called once.
//
// There is no timer: while one batch is on its way the next one fills, so
// batches are small when little happens and large when the stream is slow.
func (r *Recorder) Run(ctx context.Context) error {
	if r.started.Swap(true) {
		return errors.New("audit recorder: run twice")
	}
	// The end of ctx must not cut off the attempt that is under way.
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	watched := make(chan struct{})
	go func() { // ends with life, which Run ends
		defer close(watched)
		select {
		case <-life.Done():
			return
		case <-ctx.Done():
		}
		limit := time.NewTimer(r.cfg.DrainTimeout)
		defer limit.Stop()
		select {
		case <-life.Done():
		case <-limit.C:
			end(errors.New("drain timeout"))
		}
	}()
	defer func() {
		end(nil)
		<-watched
	}()

	for {
		p := r.queue.take()
		if p == nil {
			select {
			case <-r.queue.wake:
				continue
			case <-ctx.Done():
				if r.queue.closeIfEmpty() {
					return nil
				}
				continue
			}
		}
		if err := r.publish(life, p); err != nil {
			r.queue.settle(p, err)
			lost := p.events + r.queue.abandon(err)
			r.log.ErrorContext(ctx, "audit events left behind", "events", lost, "error", err)
			return fmt.Errorf("audit recorder left %d events behind: %w", lost, err)
		}
		r.queue.settle(p, nil)
	}
}

// publish tries until the stream has the parcel or life ends. Every attempt
// carries the same id and bytes, so that a batch whose acknowledgement was lost
// is stored once and the chain holds.
func (r *Recorder) publish(life context.Context, p *parcel) error {
	batch, id := r.chain.link(p)
	pause := minPause
	for attempt := 1; ; attempt++ {
		err := r.attempt(life, batch, id)
		if err == nil {
			r.metrics.published(life, p.events)
			if attempt > 1 {
				r.log.InfoContext(life, "audit stream is back", "attempts", attempt)
			}
			return nil
		}
		r.metrics.failed(life)
		if attempt == 1 { // once for each outage, not once for each attempt
			r.log.WarnContext(life, "audit stream does not take batches", "error", err)
		}
		// Half of the pause is random, so that the recorders of a cluster do
		// not come back all at once.
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-life.Done():
			wait.Stop()
			return fmt.Errorf("%w: %w", context.Cause(life), err)
		}
		pause = min(2*pause, maxPause)
	}
}

func (r *Recorder) attempt(life context.Context, batch []byte, id string) error {
	ctx, cancel := context.WithTimeout(life, r.cfg.PublishTimeout)
	defer cancel()
	return r.publisher.Publish(ctx, batch, id)
}
