package bus

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
)

// AnswerAtOnce is [Answer] that answers up to most requests side by side. What
// comes when as many are under way waits. Calling stop waits for those under way.
func AnswerAtOnce[Q, A proto.Message](b *Bus, subject string, most int, on func(context.Context, Q) A) (stop func(), err error) {
	places := make(chan struct{}, most)
	var under sync.WaitGroup
	end, err := b.receive(subject, func(ctx context.Context, msg *nats.Msg) error {
		q, err := read[Q](msg.Data)
		if err != nil {
			return err
		}
		places <- struct{}{}
		under.Go(func() {
			defer func() { <-places }()
			data, err := proto.Marshal(on(ctx, q))
			if err == nil {
				err = msg.Respond(data)
			}
			if err != nil {
				b.log.Warn("a request cannot be answered", "subject", subject, "err", err)
			}
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return func() {
		end()
		under.Wait()
	}, nil
}
