package bus

import (
	"context"
	"errors"
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
	return b.receive(subject, func(ctx context.Context, msg *nats.Msg) error {
		m, err := read[M](msg.Data)
		if err != nil {
			return err
		}
		on(ctx, m)
		return nil
	})
}

// Ask sends a request and waits for the one answer. [ErrNobody] says that
// nobody listens; a context that ends is its own error.
func Ask[Q, A proto.Message](ctx context.Context, b *Bus, subject string, q Q) (A, error) {
	var none A
	data, err := proto.Marshal(q)
	if err != nil {
		return none, fmt.Errorf("ask %s: %w", subject, err)
	}
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	trace.Inject(ctx, propagation.HeaderCarrier(http.Header(msg.Header)))
	got, err := b.nc.RequestMsgWithContext(ctx, msg)
	if errors.Is(err, nats.ErrNoResponders) {
		err = ErrNobody
	}
	if err != nil {
		return none, fmt.Errorf("ask %s: %w", subject, err)
	}
	a, err := read[A](got.Data)
	if err != nil {
		return none, fmt.Errorf("ask %s: %w", subject, err)
	}
	return a, nil
}

// Answer answers each request by on, one at a time, until stop is called. A
// request that is not a Q is logged and dropped.
func Answer[Q, A proto.Message](b *Bus, subject string, on func(context.Context, Q) A) (stop func(), err error) {
	return b.receive(subject, func(ctx context.Context, msg *nats.Msg) error {
		q, err := read[Q](msg.Data)
		if err != nil {
			return err
		}
		data, err := proto.Marshal(on(ctx, q))
		if err != nil {
			return err
		}
		return msg.Respond(data)
	})
}

// receive calls on for each message of a subject, with the sender's trace in the
// context, and logs what cannot be read or answered.
func (b *Bus) receive(subject string, on func(context.Context, *nats.Msg) error) (stop func(), err error) {
	sub, err := b.nc.Subscribe(subject, func(msg *nats.Msg) {
		ctx := trace.Extract(context.Background(), propagation.HeaderCarrier(http.Header(msg.Header)))
		if err := on(ctx, msg); err != nil {
			b.log.Warn("a message cannot be taken", "subject", msg.Subject, "err", err)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only when the connection is closed
}

// read makes an M, a pointer to a generated message, of its bytes.
func read[M proto.Message](data []byte) (M, error) {
	var zero M
	m, ok := zero.ProtoReflect().Type().New().Interface().(M)
	if !ok {
		return zero, fmt.Errorf("%T is not a generated message", zero)
	}
	return m, proto.Unmarshal(data, m)
}
