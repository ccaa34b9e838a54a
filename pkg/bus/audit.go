package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// dedup is how long the audit stream remembers message ids: a publish may be
// repeated for this long without being stored twice.
const dedup = 10 * time.Minute

// AuditStream makes sure that the audit stream exists and returns it. Nothing
// can be deleted from it, and when it is full it refuses new events.
func (b *Bus) AuditStream(ctx context.Context) (jetstream.Stream, error) {
	max := b.cfg.AuditMaxBytes
	if max == 0 {
		max = -1
	}
	s, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        AuditStream,
		Description: "what was asked, decided and done",
		Subjects:    []string{SubjectAudit},
		Storage:     jetstream.FileStorage,
		Replicas:    b.cfg.Replicas,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    max,
		DenyDelete:  true,
		DenyPurge:   true,
		Duplicates:  dedup,
	})
	if err != nil {
		return nil, fmt.Errorf("open the audit stream: %w", err)
	}
	return s, nil
}

// AuditPublisher publishes to the audit stream.
type AuditPublisher struct{ bus *Bus }

// AuditPublisher returns a publisher to the audit stream, which it opens when it
// is first needed.
func (b *Bus) AuditPublisher() *AuditPublisher { return &AuditPublisher{b} }

// Publish stores one batch and returns when the stream has acknowledged it. The
// same id within ten minutes is stored once.
func (p *AuditPublisher) Publish(ctx context.Context, batch []byte, id string) error {
	b := p.bus
	b.mu.Lock()
	open := b.audit
	b.mu.Unlock()
	if !open {
		if _, err := b.AuditStream(ctx); err != nil {
			return err
		}
		b.mu.Lock()
		b.audit = true
		b.mu.Unlock()
	}
	_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: SubjectAudit, Data: batch}, jetstream.WithMsgID(id))
	if err != nil {
		b.mu.Lock()
		b.audit = false // it may have vanished: open it again before the next try
		b.mu.Unlock()
		return fmt.Errorf("publish to the audit stream: %w", err)
	}
	return nil
}
