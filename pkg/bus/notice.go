package bus

import (
	"context"
	"fmt"
	"net/http"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/protobuf/proto"
)

// trace carries the trace context in the headers of a message.
var trace = propagation.TraceContext{}

// Publish sends a notice to whoever listens just now.
func Publish[M proto.Message](ctx context.Context, b *Bus, subject string, m M) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("publish %s: %w", subject, err)
	}
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	trace.Inject(ctx, propagation.HeaderCarrier(http.Header(msg.Header)))
	if err := b.nc.PublishMsg(msg); err != nil {
		return fmt.Errorf("publish %s: %w", subject, err)
	}
	return nil
}

// Subscribe calls on for each notice, one at a time, with the sender's trace in
// the context, until stop is called. A message that is not an M is logged and
// dropped. M is a pointer to a generated message.
func Subscribe[M proto.Message](b *Bus, subject string, on func(context.Context, M)) (stop func(), err error) {
	var zero M
	kind := zero.ProtoReflect().Type()
	sub, err := b.nc.Subscribe(subject, func(msg *nats.Msg) {
		m, ok := kind.New().Interface().(M)
		if !ok {
			return // New makes what Type names
		}
		if err := proto.Unmarshal(msg.Data, m); err != nil {
			b.log.Warn("a notice cannot be read", "subject", msg.Subject, "err", err)
			return
		}
		on(trace.Extract(context.Background(), propagation.HeaderCarrier(http.Header(msg.Header))), m)
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only when the connection is closed
}
